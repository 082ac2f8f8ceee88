"""Addresses: joined with names, and shown without what is secret in them."""

from __future__ import annotations

import re

_URL = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*://)(?P<rest>[^\s'\"<>]*)")


def joined(address: str, name: str) -> str:
    """The address of a file or folder below an address; a web server's query stays at the end."""
    if not name or not address:
        return address or name
    base, mark, query = address.partition("?") if is_web(address) else (address, "", "")
    return f"{base.rstrip('/')}/{name}{mark}{query}"


def is_web(address: str) -> bool:
    """Whether what follows a question mark is a query and not a part of a name."""
    return address.startswith(("http://", "https://"))


def shown(address: str) -> str:
    """An address for messages: without user, password and query."""
    scheme, mark, rest = address.partition("://")
    place, slash, path = rest.partition("/")
    if is_web(address):
        place, path = place.partition("?")[0], path.partition("?")[0]
    return f"{scheme}{mark}{place.rpartition('@')[2]}{slash}{path}"


def cleaned(text: str) -> str:
    """A text of somebody else's, with the addresses in it stripped of all that may be secret."""
    return _URL.sub(_stripped, text)


def _stripped(match: re.Match[str]) -> str:
    place, slash, path = match["rest"].partition("/")
    kept = place.rpartition("@")[2] + slash + path
    return match["scheme"] + kept.partition("?")[0]

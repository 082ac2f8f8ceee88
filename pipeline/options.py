"""Options from YAML files and flags."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import yaml

from pipeline.config import BuildConfig, expect
from shards.errors import ConfigError


def load_yaml(path: Path) -> dict[str, Any]:
    """Options from a YAML file, keyed like the flags (``val-fraction`` or ``val_fraction``).

    Raises:
        ConfigError: unreadable, not a mapping, or an unknown option.
    """
    try:
        document = yaml.safe_load(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"--config {path}: expected a YAML file, found: {error}") from error
    if document is None:
        return {}
    if not isinstance(document, dict):
        raise ConfigError(
            f"--config {path}: expected option: value lines, found {type(document).__name__}"
        )
    known = {field.name for field in fields(BuildConfig)}
    options: dict[str, Any] = {}
    for key, value in document.items():
        name = str(key).replace("-", "_")
        if name not in known:
            raise ConfigError(
                f"--config {path}: unknown option {key!r}",
                hint="known: " + ", ".join(sorted(n.replace("_", "-") for n in known)),
            )
        options[name] = value
    return options


def make_config(options: Mapping[str, Any]) -> BuildConfig:
    """A configuration from loosely typed options (YAML or flags).

    Raises:
        ConfigError: a value of the wrong type or out of range, with its flag.
    """
    values = {name: value for name, value in options.items() if value is not None}
    if options.get("loudness", "") in ("off", None) or options.get("loudness") is False:
        values["loudness"] = None
    if "lr" in values:
        specs = [values["lr"]] if isinstance(values["lr"], str) else values["lr"]
        expect(isinstance(specs, list | tuple), "--lr", "a variant or a list of them", specs)
        values["lr"] = tuple(str(item) for item in specs)
    if "codec_weights" in values:
        path = values["codec_weights"]
        expect(isinstance(path, str | Path), "--codec-weights", "a path", path)
        values["codec_weights"] = Path(path).expanduser()
    defaults = BuildConfig()
    for name, value in values.items():
        values[name] = _coerced(name, value, getattr(defaults, name))
    return replace(defaults, **values)


_NUMBERS: Mapping[str, type] = {
    "loudness": float,
    "shard_hours": float,
    "workers": int,
    "ray_address": str,
    "encode_actors": int,
    "gpus_per_actor": float,
    "limit": int,
}


def _coerced(name: str, value: Any, default: Any) -> Any:
    """Numbers given as text or as the other number type become the field's type."""
    kind = _NUMBERS.get(name, type(default))
    if value is None or kind not in (int, float, bool, str):
        return value
    flag = "--" + name.replace("_", "-")
    if kind is bool or kind is str:
        expect(isinstance(value, kind), flag, "text" if kind is str else "true or false", value)
        return value
    try:
        number = kind(value)
        exact = not isinstance(value, bool) and float(value) == float(number)
    except (TypeError, ValueError, OverflowError):
        exact = False
    expect(exact, flag, "a whole number" if kind is int else "a number", value)
    return number

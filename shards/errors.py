"""Errors that a user can act on.

Every error says what was expected, what was found and what to do next. Anything that is not a
``JatsrError`` is a defect of the program and is never caught to be ignored.
"""

from __future__ import annotations


class JatsrError(Exception):
    """An error with a hint.

    Args:
        message: what was expected and what was found.
        hint: what the user can do next; names the flag or the file.
    """

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n  hint: {self.hint}" if self.hint else self.message

    def __reduce__(self) -> tuple[object, ...]:
        # Errors travel from worker processes; the default would drop the keyword argument.
        return (_rebuild, (type(self), self.message, self.hint, self.__dict__))


def _rebuild(
    cls: type[JatsrError], message: str, hint: str, state: dict[str, object]
) -> JatsrError:
    error = cls.__new__(cls)
    Exception.__init__(error, message)
    error.__dict__.update(state)
    error.message, error.hint = message, hint
    return error


class ConfigError(JatsrError):
    """An option has a value that cannot work; the message names the flag."""


class FormatError(JatsrError):
    """A file of a dataset is not what format version 1 says it is."""


class MissingExtraError(JatsrError):
    """An optional dependency is not installed; the hint names the extra."""


class EnvironmentFailure(JatsrError):
    """The machine, not the input, is at fault (disk full, no memory): the run stops, resumable."""


class ChangedError(EnvironmentFailure):
    """A file changed while it was read."""


class TrackError(JatsrError):
    """One input failed; it becomes a ``failed`` ledger row and the run goes on.

    Args:
        message: what was expected and what was found.
        hint: what the user can do about this file.
        stage: the stage that failed: ``scan``, ``decode``, ``condition``, ``degrade``, ...
    """

    def __init__(self, message: str, *, hint: str = "", stage: str) -> None:
        super().__init__(message, hint=hint)
        self.stage = stage


class TrackSkipped(JatsrError):
    """One input is deliberately left out (silent, duplicate); a ``skipped`` ledger row."""

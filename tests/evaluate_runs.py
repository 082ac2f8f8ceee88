"""``jatsr evaluate`` without a process of its own."""

from __future__ import annotations

from click.testing import CliRunner, Result

from jatsr_model.commands.evaluate import evaluate


def run(*arguments: object, code: int = 0) -> Result:
    """The command; it has to end with this code."""
    done = CliRunner().invoke(evaluate, [*map(str, arguments)])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == code, done.output
    return done

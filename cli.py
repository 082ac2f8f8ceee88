"""The ``jatsr`` command: registers the verbs, contains no logic."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Mapping
from importlib import metadata
from types import MappingProxyType

import click

from shards.errors import JatsrError

COMMANDS: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "build": ("pipeline.commands.build", "Turn music into a latent dataset."),
        "merge": ("pipeline.commands.merge", "Make one dataset of several, without encoding."),
        "verify": ("pipeline.commands.verify", "Check every byte of a dataset."),
        "info": ("pipeline.commands.info", "Say what is in a dataset and how it was made."),
        "preview": ("jatsr_model.commands.preview", "Show what a trainer will see."),
        "train": ("jatsr_model.commands.train", "Train a network on a dataset."),
        "upsample": ("pipeline.commands.upsample", "Give music its upper band back."),
        "inspect": ("jatsr_model.commands.inspect", "Say what is in sound files, up to where."),
        "evaluate": ("jatsr_model.commands.evaluate", "Compare estimates with references."),
        "codec": ("jatsr_model.commands.codec", "Obtain codec weights; measure a codec."),
        "doctor": ("pipeline.commands.doctor", "Say what works on this machine."),
        "models": ("jatsr_model.commands.models", "List the networks and what they cost."),
        "export": ("jatsr_model.commands.export", "Make a model folder to give away."),
        "import-checkpoint": ("jatsr_model.commands.import_checkpoint", "Take over a checkpoint."),
    }
)


class LazyGroup(click.Group):
    """Loads a verb's module when the verb is used, so that ``--help`` is instant."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Verbs in the order in which they are used."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a verb."""
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(COMMANDS[cmd_name][0])
        command: click.Command = getattr(module, cmd_name.replace("-", "_"))
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the verbs without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


def _version(ctx: click.Context, _: click.Parameter, wanted: bool) -> None:
    if wanted:
        click.echo(f"jatsr {metadata.version('jatsr')}")
        ctx.exit()


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--version", is_flag=True, is_eager=True, expose_value=False, callback=_version,
              help="Show the version and exit.")  # fmt: skip
def jatsr() -> None:
    """Music folders to training-ready latent datasets."""


def main() -> None:
    """Entry point: errors a user can act on become one message and exit code 1."""
    try:
        code = jatsr.main(standalone_mode=False)
    except click.exceptions.Abort:
        click.echo("\ninterrupted", err=True)
        code = 130
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except JatsrError as error:
        click.echo(f"error: {error}", err=True)
        code = 1
    except BrokenPipeError:  # the reader of our output has gone, as with `| head`
        sys.stderr.close()
        code = 1
    sys.exit(code)


if __name__ == "__main__":
    main()

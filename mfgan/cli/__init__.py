"""The ``mfgan`` command: one file a group of commands, torch imported inside them alone."""

import sys

import rich_click as click

from mfgan._version import __version__
from mfgan.errors import MfganError

# Commands by name: the module that holds each one, imported when it is asked for.
_COMMANDS = {
    "datasets": "mfgan.cli.datasets",
    "prepare": "mfgan.cli.prepare",
    "train": "mfgan.cli.train",
    "sample": "mfgan.cli.sample",
    "eval": "mfgan.cli.evaluate",
    "recommend": "mfgan.cli.recommend",
    "explain": "mfgan.cli.explain",
    "report": "mfgan.cli.report",
    "doctor": "mfgan.cli.doctor",
    "demo": "mfgan.cli.demo",
    "user-model": "mfgan.cli.user_model",
    "policy": "mfgan.cli.policy",
}


class _LazyGroup(click.RichGroup):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in _COMMANDS:
            return None
        from importlib import import_module

        command: click.Command = import_module(_COMMANDS[name]).command
        return command


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="mfgan")
@click.option("--debug", is_flag=True, help="Show a traceback where a command fails.")
def cli(debug: bool) -> None:
    """Adversarial sequential recommendation that explains itself."""


def main(arguments: list[str] | None = None) -> None:
    """Run a command; a mistake that the user can mend gives one line and exit status 2."""
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        cli.main(args=arguments, prog_name="mfgan", standalone_mode=True)
    except (MfganError, OSError) as error:
        if "--debug" in arguments:
            raise
        click.echo(f"mfgan: {' '.join(str(error).split())}", err=True)
        sys.exit(2)

"""The ``mfgan`` command: one file a group of commands, torch imported inside them alone."""

import io
import os
import sys

import rich_click as click

from mfgan._version import __version__
from mfgan.errors import MfganError, nearest

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

_AROUND = 20  # letters shown on each side of one that cannot be written


class _LazyGroup(click.RichGroup):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in _COMMANDS:
            return None
        from importlib import import_module

        command: click.Command = import_module(_COMMANDS[name]).command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args[0] not in _COMMANDS:
            ctx.fail(f"no such command {args[0]!r}{nearest(args[0], list(_COMMANDS))}")
        return super().resolve_command(ctx, args)


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="mfgan")
@click.option("--debug", is_flag=True, help="Show a traceback where a command fails.")
def cli(debug: bool) -> None:
    """Adversarial sequential recommendation that explains itself."""


def main(arguments: list[str] | None = None) -> None:
    """Run a command; a mistake that the user can mend gives one line and exit status 2."""
    arguments = sys.argv[1:] if arguments is None else arguments
    for stream in (sys.stdout, sys.stderr):
        # A title that a terminal cannot show is written with escapes; nothing stops for it.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        for word in arguments:
            word.encode()  # bytes that are no text come as lone surrogates, which nobody takes
        sys.exit(cli.main(args=arguments, prog_name="mfgan", standalone_mode=False) or 0)
    except click.ClickException as error:
        context = getattr(error, "ctx", None)
        _fail(context.command_path if context else "mfgan", error.format_message())
    except BrokenPipeError:
        # Whoever read the output has gone; what is left of it must not fail at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except (MfganError, OSError) as error:
        if "--debug" in arguments:
            raise
        _fail("mfgan", str(error))
    except UnicodeEncodeError as error:
        if "--debug" in arguments:
            raise
        got = error.object[max(error.start - _AROUND, 0) : error.end + _AROUND]
        _fail("mfgan", f"names and text must be {error.encoding.upper()}, got {got!r}")
    except click.Abort:
        click.echo("mfgan: stopped", err=True)
        sys.exit(1)


def _fail(where: str, what: str) -> None:
    click.echo(f"{where}: {' '.join(what.split())}", err=True)
    sys.exit(2)

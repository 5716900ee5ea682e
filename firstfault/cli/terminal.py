"""What all commands share: the program, where it prints, and how bad input ends it."""

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from typer.core import TyperGroup

from correlator.importers import TopologyError
from correlator.recorded import RecordedError
from correlator.recording import RecordingError
from correlator.rules import RuleFaults
from firstfault.cli.sentences import plain
from firstfault.log import LogError
from firstfault.packs import NoSuchPack
from schemas.base import canonical
from schemas.keys import KeyFileError

EXIT_DIFFERENT = 1
"""The answer is no: two records differ, a test, claim or check fails, something is doubtful."""
EXIT_BAD_INPUT = 2
"""What was given cannot be used, by any command: a log, a pack, a key set, an option."""
EXIT_UNANSWERED = 3
"""A command was given, and nobody has said what became of it."""
LINES_MAX = 5
"""Lines of a report shown; the rest is counted."""
FILE_WIDTH = 120
"""Characters in a line of a table that goes to a file or a pipe."""

out = Console(
    highlight=False, emoji=False, soft_wrap=True, width=None if sys.stdout.isatty() else FILE_WIDTH
)
err = Console(stderr=True, highlight=False, emoji=False, soft_wrap=True)


class BadInput(Exception):  # noqa: N818 - it says what it is
    """What was given cannot be used, said in one sentence."""


INPUT_ERRORS = (
    BadInput,
    KeyFileError,
    LogError,
    NoSuchPack,
    OSError,
    RecordedError,
    RecordingError,
    RuleFaults,
    TopologyError,
)


def _sentences(error: Exception) -> list[str]:
    if isinstance(error, OSError) and error.filename is not None:
        return [f"{error.filename}: {error.strerror}"]
    return str(error).splitlines()


class Commands(TyperGroup):
    """The commands; bad input ends each of them with its sentence and exit code 2."""

    def invoke(self, ctx: Any) -> Any:  # noqa: ANN401 - typer keeps the type of its context private
        """Run the command that was asked for."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            raise
        except INPUT_ERRORS as error:
            for line in _sentences(error):
                err.print(f"[red]{plain(line)}[/red]")
            raise typer.Exit(EXIT_BAD_INPUT) from None


class Format(StrEnum):
    """How a command answers."""

    text = "text"
    json = "json"


Output = Annotated[Format, typer.Option(help="text for people, json for programs.")]
Rules = Annotated[
    str,
    typer.Option(help="Rule pack: a folder, or the name of a shipped one.", metavar="PACK"),
]
TopologyFile = Annotated[
    Path | None,
    typer.Option(help="JSON, YAML or GraphML, in place of the recording's own.", metavar="FILE"),
]

app = typer.Typer(
    name="firstfault",
    cls=Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    help="Find the first fault behind a storm of alarms, and say what to do about it.",
)


def say_json(document: object) -> None:
    """Print the one JSON text of a value as a line."""
    typer.echo(canonical(document))


def say_report(lines: list[str]) -> None:
    """Print what was unusual about an import to stderr: the first few lines, then a count."""
    for line in lines[:LINES_MAX]:
        err.print(f"[yellow]topology:[/yellow] {plain(line)}")
    if len(lines) > LINES_MAX:
        err.print(f"[yellow]topology:[/yellow] … and {len(lines) - LINES_MAX} more like these")

"""The command ``firstfault``: each module adds the commands it is named after."""

from importlib.metadata import version
from typing import Annotated

import typer

from firstfault.cli import (
    act,
    actions,
    collect,
    corpus,
    demo,
    diff,
    explain,
    graph,
    incidents,
    keys,
    operate,
    policy,
    record,
    replay,
    rules,
    run,
    schema,
    score,
    shadow,
    sla,
    topics,
    why_not,
)
from firstfault.cli.terminal import app

__all__ = [
    "act",
    "actions",
    "app",
    "collect",
    "corpus",
    "demo",
    "diff",
    "explain",
    "graph",
    "incidents",
    "keys",
    "main",
    "operate",
    "policy",
    "record",
    "replay",
    "rules",
    "run",
    "schema",
    "score",
    "shadow",
    "sla",
    "topics",
    "why_not",
]


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"firstfault {version('firstfault')}")
        raise typer.Exit


@app.callback()
def _options(
    _: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    """Find the first fault behind a storm of alarms, and say what to do about it."""


def main() -> None:
    """Run the command line."""
    app()

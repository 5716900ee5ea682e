"""``firstfault schema``: the contracts as files for other tools."""

from pathlib import Path
from typing import Annotated

import typer

from firstfault.cli.sentences import plain
from firstfault.cli.terminal import Commands, app, err
from schemas.export import exported

schemas = typer.Typer(
    cls=Commands, no_args_is_help=True, help="Write the schemas of messages and documents."
)
app.add_typer(schemas, name="schema")


@schemas.command(epilog="Example: firstfault schema export out-schemas")
def export(
    folder: Annotated[Path, typer.Argument(help="Folder to write to.", metavar="DIR")],
) -> None:
    """Write a JSON Schema of every message and rule document, and an AsyncAPI 3.0 document."""
    folder.mkdir(parents=True, exist_ok=True)
    files = exported()
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8")
    err.print(plain(f"{folder}: {len(files)} files"))

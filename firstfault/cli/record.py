"""``firstfault record``: a stretch of a live log, written down for `replay`."""

import asyncio
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated

import typer

from firstfault.cli.replay import Bar, From, To, moment
from firstfault.cli.sentences import plain
from firstfault.cli.site import Kafka, Local, open_log
from firstfault.cli.terminal import (
    Format,
    Output,
    TopologyFile,
    app,
    err,
    out,
    say_json,
)
from firstfault.log import Log
from firstfault.recording import TOPOLOGIES, Stretch, Written, whole
from firstfault.recording import record as write


async def written(folder: Path, log: Log, stretch: Stretch) -> Written:
    """Record a stretch of a log with a progress bar; return what became of its messages."""
    file = stretch.topology
    if file and not (file.is_file() and file.suffix in TOPOLOGIES):
        err.print(plain(f"{file}: not kept with the recording; `replay --topology` gives it"))
        stretch = replace(stretch, topology=None)
    bar = Bar(None, "recording")
    try:
        return await write(log, stretch, folder, bar.show)
    finally:
        bar.close()


@app.command(
    epilog="Example: firstfault run --local site --for 1s && firstfault record out --local site"
)
def record(
    folder: Annotated[Path, typer.Argument(help="Folder that is made.", metavar="OUT")],
    *,
    local: Local = None,
    kafka: Kafka = None,
    domain: Annotated[
        str | None, typer.Option(help="Name of the domain, where the log has several.")
    ] = None,
    topology: TopologyFile = None,
    start: From = None,
    end: To = None,
    output: Output = Format.text,
) -> None:
    """Write what is in a log now to a folder that `firstfault replay` takes.

    Of each frame once, what can be read of it: that is what a correlator folds. A recording that
    begins in the middle knows nothing of what stood before.
    """
    first, last = moment("--from", start), moment("--to", end)

    async def all_of_it() -> tuple[Stretch, Written]:
        async with open_log(local, kafka) as log:
            there = await whole(log, domain)
            file = topology or there.topology
            stretch = replace(there, topology=file, start=first, end=last)
            return stretch, await written(folder, log, stretch)

    stretch, told = asyncio.run(all_of_it())
    for name in told.rules_missing:
        err.print(plain(f"rules:{name} was made active, and is not published: not kept with it"))
    if not told.inputs and (first or last):
        err.print("nothing was appended then; without --from and --to all that is kept is written")
    if output is Format.json:
        say_json({"domain": stretch.domain, "partition": stretch.partition, **asdict(told)})
        return
    left_out = f"{told.doubles} doubles, {told.unread} unreadable, {told.others} of other domains"
    out.print(plain(f"{folder}: {told.inputs} inputs of {stretch.domain} (left out: {left_out})"))

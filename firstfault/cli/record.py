"""``firstfault record``: a stretch of a live log, written down for `replay`."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated

import typer

from firstfault.cli.replay import Bar, moment
from firstfault.cli.sentences import plain
from firstfault.cli.site import Kafka, Local
from firstfault.cli.terminal import (
    BadInput,
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
from schemas.topics import LOCAL_FILE


@asynccontextmanager
async def opened_log(local: Path | None, kafka: str | None) -> AsyncIterator[Log]:
    """Open the log that the options name, and close it.

    Raises:
        BadInput: they name none, or two.
        LogError: it cannot be opened.
    """
    log: Log
    if (local is None) == (kafka is None):
        msg = "where is the log? give either --local DIR or --kafka BOOTSTRAP"
        raise BadInput(msg)
    if local is not None:
        from firstfault.log.local import open_local

        if not (local / LOCAL_FILE).is_file():
            msg = f"{local}: there is no {LOCAL_FILE}"
            raise BadInput(msg)
        log = open_local(local)
    else:
        from firstfault.kafka import kafka_settings
        from firstfault.log.kafka import KafkaLog
        from firstfault.log.kafka_settings import only_our_words

        only_our_words()
        log = KafkaLog(kafka_settings(kafka or ""))
    try:
        yield log
    finally:
        await log.close()


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
    start: Annotated[
        str | None,
        typer.Option("--from", help="First log time: RFC 3339, or +90s.", metavar="TIME"),
    ] = None,
    end: Annotated[
        str | None,
        typer.Option("--to", help="Log time to stop before: RFC 3339, or +90s.", metavar="TIME"),
    ] = None,
    output: Output = Format.text,
) -> None:
    """Write what is in a log now to a folder that `firstfault replay` takes.

    Of each frame once, what can be read of it: that is what a correlator folds. A recording that
    begins in the middle knows nothing of what stood before.
    """
    first, last = moment("--from", start), moment("--to", end)

    async def all_of_it() -> tuple[Stretch, Written]:
        async with opened_log(local, kafka) as log:
            there = await whole(log, domain)
            file = topology or there.topology
            stretch = replace(there, topology=file, start=first, end=last)
            return stretch, await written(folder, log, stretch)

    stretch, told = asyncio.run(all_of_it())
    if output is Format.json:
        say_json({"domain": stretch.domain, "partition": stretch.partition, **asdict(told)})
        return
    left_out = f"{told.doubles} doubles, {told.unread} unreadable, {told.others} of other domains"
    out.print(plain(f"{folder}: {told.inputs} inputs of {stretch.domain} (left out: {left_out})"))

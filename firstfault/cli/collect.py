"""``firstfault collect``: run the collectors of a host on a log."""

import socket
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from firstfault.cli.running import LASTS, StateFolder, run_until, say, state_folder
from firstfault.cli.sentences import plain
from firstfault.cli.site import Kafka, Local, Where, open_site
from firstfault.cli.terminal import BadInput, Format, Output, app, out, say_json
from schemas.base import document_of
from schemas.inputs import Event, Input, Level, Pulse

if TYPE_CHECKING:
    from firstfault.edges import EdgesConfig

EXAMPLE = "firstfault collect --source pulse --host compute-3 --dry-run --output json --for 1s"


@app.command(epilog=f"Example: {EXAMPLE}")
def collect(
    *,
    local: Local = None,
    kafka: Kafka = None,
    state: StateFolder = None,
    config: Annotated[
        Path | None, typer.Option(help="The site's file of collectors.", metavar="FILE")
    ] = None,
    source: Annotated[
        list[str] | None, typer.Option(help="Without a file: link, pulse.", metavar="NAME")
    ] = None,
    host: Annotated[
        str | None, typer.Option(help="Without a file: the host; else this one's name.")
    ] = None,
    domain: Annotated[str, typer.Option(help="Without a file: name of the domain.")] = "default",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print inputs in place of appending them.")
    ] = False,
    output: Output = Format.text,
    duration: LASTS = None,
) -> None:
    """Watch a host, and append what changes of it to a log, with what stands every few seconds.

    Ends with Ctrl-C or SIGTERM. While the log cannot be reached, events wait on the disk.
    """
    from collectors.runner import Collector
    from collectors.spool import Spool
    from firstfault.edges import EdgesConfig, Place, collector_of, together

    edges = _edges(config, source, host, domain)

    async def printed(inputs: Sequence[Input]) -> None:
        for one in inputs:
            _show(one, output)

    async def dry(given: EdgesConfig, folder: Path) -> None:
        made = (
            Collector(one.observer, one.made(), printed, Spool(folder / f"{number}.db"))
            for number, one in enumerate(given.collectors)
        )
        await together([one.run() for one in made])

    from collectors.runner import SEND_S_MAX
    from firstfault.log.kafka_settings import quiet_libraries

    async def whole(folder: Path) -> None:
        where = Where(local, kafka, edges.domain)
        # The log must have given up a frame before the collector does, and tells it anew.
        async with open_site(where, must_exist=False, append_s=0.8 * SEND_S_MAX) as site:
            quiet_libraries()  # It waits out an outage: who looks for the reason finds a line.
            place = Place(site.log, folder, say, site.partition)
            made = (collector_of(one, edges.domain, place) for one in edges.collectors)
            await together([one.run() for one in made])

    if dry_run:
        import tempfile

        with tempfile.TemporaryDirectory() as folder:
            run_until(partial(dry, edges, Path(folder)), duration)
    else:
        run_until(partial(whole, state_folder(state, local)), duration)


def _edges(
    config: Path | None, sources: list[str] | None, host: str | None, domain: str
) -> "EdgesConfig":
    """Return the collectors of a file, or the one that the options name."""
    from collectors.config import of_names
    from firstfault.edges import EdgesConfig, read_edges

    if (config is None) == (not sources):
        msg = "name either --config FILE, or each --source to run"
        raise BadInput(msg)
    if config is not None:
        found = read_edges(config)
        if not found.collectors:
            msg = f"{config}: names no collectors"
            raise BadInput(msg)
        return found
    try:
        one = of_names(sources or [], host or socket.gethostname())
    except ValueError as error:
        raise BadInput(str(error)) from None
    return EdgesConfig(domain=domain, collectors=[one])


def _show(given: Input, output: Format) -> None:
    if output is Format.json:
        say_json(document_of(given))
        return
    match given:
        case Event():
            attrs = " ".join(f"{name}={value}" for name, value in sorted(given.attrs.items()))
            text = f"{given.state} {given.signal} {given.entity} {attrs}".rstrip()
        case Level():
            text = f"stands: {len(given.facts)} facts of {given.source}"
        case Pulse():
            ok = " ".join(given.sources_ok) or "none"
            text = f"pulse {given.collector} {given.seq}, sources that work: {ok}"
        case _:
            text = given.type
    out.print(plain(text))

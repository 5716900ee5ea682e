"""``firstfault run``: the correlator on a log that grows."""

import asyncio
import signal
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer
from pydantic import ValidationError

from correlator.importers import load_topology
from correlator.live import Told
from correlator.recorded import Said
from correlator.rules import RuleSet
from correlator.topology import Topology
from firstfault.cli.replay import printer
from firstfault.cli.terminal import (
    BadInput,
    Format,
    Output,
    Rules,
    TopologyFile,
    app,
    err,
    say_report,
)
from firstfault.playback import open_site, spare_collections
from schemas.base import first_fault, from_microseconds, parse_duration
from schemas.control import DomainMap
from schemas.kafka import KafkaSettings
from schemas.outputs import DeadLetter

if TYPE_CHECKING:
    from correlator.shell import Site
    from firstfault.on_kafka import Wanted


def _seconds(text: str | None) -> float | None:
    try:
        return None if text is None else parse_duration(text)
    except ValueError as error:
        msg = f"--for {text}: {error}"
        raise BadInput(msg) from None


@app.command(epilog="Example: firstfault run --local site --rules nfvi --for 1s")
def run(
    *,
    local: Annotated[
        Path | None,
        typer.Option(help="Folder of the log; made if it is not there.", metavar="DIR"),
    ] = None,
    kafka: Annotated[
        str | None, typer.Option(help="The cluster, as host:port.", metavar="BOOTSTRAP")
    ] = None,
    prefix: Annotated[str, typer.Option(help="Before the name of every topic there.")] = "",
    rules: Rules = "generic",
    topology: TopologyFile = None,
    domain: Annotated[str, typer.Option(help="Name of the domain.")] = "default",
    instance: Annotated[
        str | None,
        typer.Option(help="Name of this worker: a restart under it moves no partition."),
    ] = None,
    standby: Annotated[
        bool, typer.Option("--standby", help="Fold along, and take over when the others stop.")
    ] = False,
    metrics_port: Annotated[
        int | None, typer.Option(help="Port for Prometheus.", min=0, max=65_535)
    ] = None,
    output: Output = Format.text,
    quiet: Annotated[bool, typer.Option("--quiet", help="Print no outputs.")] = False,
    duration: Annotated[
        str | None, typer.Option("--for", help="End after so long, e.g. 10s.", metavar="TIME")
    ] = None,
) -> None:
    """Fold a log as it grows, and append what is found and what is to be done about it.

    With --local alone on the log of a folder; with --kafka as one of any number of workers, which
    share the partitions of a cluster. Ends with Ctrl-C or SIGTERM. Nothing is lost: all of it is in
    the log, and is folded again.
    """
    if (local is None) == (kafka is None):
        raise BadInput("give the log: --local DIR, or --kafka BOOTSTRAP")
    lasts_s = _seconds(duration)
    ruleset, graph, report = open_site(rules, topology)
    say_report(report.lines())
    show = _shower(output, quiet=quiet)
    if local is not None:
        _run_local(local, _Site(domain, graph, ruleset), show, lasts_s)
        return
    from firstfault.on_kafka import Wanted, own_name

    settings = _kafka_settings(str(kafka), prefix)
    wanted = Wanted(settings, own_name(instance), instance, standby, metrics_port, lasts_s)
    _run_kafka(wanted, _Site(domain, graph, ruleset), show)


class _Site(NamedTuple):
    """What the options say of the domain; on Kafka, that of all that the map gives no file of."""

    domain: str
    topology: Topology
    rules: RuleSet


def _shower(output: Format, *, quiet: bool) -> Callable[[Told], None]:
    show = printer(output, quiet=quiet)

    def on_told(one: Told) -> None:
        if isinstance(one.output, DeadLetter):
            err.print(f"offset {one.offset}: {one.output.reason}", markup=False)
            return
        at = from_microseconds(one.log_us)
        show(
            Said.model_construct(case="", offset=one.offset, index=0, log_at=at, output=one.output)
        )

    return on_told


def _run_local(
    folder: Path, given: _Site, show: Callable[[Told], None], lasts_s: float | None
) -> None:
    from firstfault.local import Correlator, Site, alone
    from firstfault.log.local import open_local

    async def whole() -> None:
        task, loop = asyncio.current_task(), asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, task.cancel if task else int)
        log = open_local(folder)
        try:
            async with alone(folder):
                err.print(f"{folder}: reading the log of {given.domain}", markup=False)
                correlator = Correlator(log, Site(*given), show)
                await asyncio.wait_for(correlator.run(), lasts_s)
        finally:
            await log.close()

    spare_collections()
    try:
        asyncio.run(whole())
    except (asyncio.CancelledError, TimeoutError):
        err.print("stopped")


def _run_kafka(wanted: "Wanted", given: _Site, show: Callable[[Told], None]) -> None:
    from correlator.worker import Hooks
    from firstfault.on_kafka import block_signals, serve

    block_signals()
    err.print(f"{wanted.kafka.bootstrap}: {wanted.owner} joins", markup=False)
    hooks = Hooks(show, partial(err.print, markup=False), spare_collections)
    with suppress(asyncio.CancelledError):
        asyncio.run(serve(wanted, partial(_sites, wanted, given), hooks))
    err.print("stopped")


def _sites(wanted: "Wanted", given: _Site, domains: DomainMap | None) -> dict[int, list["Site"]]:
    """Return what is in each partition; without a map, the one domain is in the first."""
    from correlator.shell import Site

    if domains is None:
        return {0: [Site(*given, owner=wanted.owner)]}
    sites: dict[int, list[Site]] = {}
    for one in domains.domains:
        graph = given.topology
        if one.topology is not None:
            graph, report = load_topology(Path(one.topology), given.rules.schema)
            say_report(report.lines())
        site = Site(
            one.name,
            graph,
            given.rules,
            owner=wanted.owner,
            log_generation=domains.log_generation,
        )
        sites.setdefault(one.partition, []).append(site)
    return sites


def _kafka_settings(bootstrap: str, prefix: str) -> KafkaSettings:
    try:
        return KafkaSettings(bootstrap=bootstrap, prefix=prefix)
    except ValidationError as error:
        msg = f"--kafka {bootstrap}: {first_fault(error)}"
        raise BadInput(msg) from None

"""``firstfault run``: the correlator on a log that grows."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from pydantic import ByteSize, TypeAdapter, ValidationError

from correlator.importers import load_topology
from correlator.live import Told
from correlator.recorded import Said
from correlator.rules import RuleSet
from correlator.topology import Topology
from firstfault.cli import site
from firstfault.cli.region import RegionOptions, run_region
from firstfault.cli.replay import printer
from firstfault.cli.running import LASTS, run_until, say, seconds
from firstfault.cli.site import Owner, open_log, owner_of
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
from schemas.base import first_fault, from_microseconds
from schemas.control import DomainMap
from schemas.kafka import KafkaSettings
from schemas.outputs import DeadLetter

if TYPE_CHECKING:
    from correlator.shell import Site
    from firstfault.edges import EdgesConfig
    from firstfault.log.local import Retention
    from firstfault.on_kafka import Wanted

KEPT_US_LEAST, KEPT_BYTES_LEAST = 3_600_000_000, 100_000_000
"""Of a local log: far more than what comes between two snapshots, ten seconds apart."""

Folder = Annotated[
    Path | None,
    typer.Option("--local", help="Folder of the log; made if it is not there.", metavar="DIR"),
]
Cluster = Annotated[
    str | None,
    typer.Option(
        "--kafka", help="A broker's host:port, or a YAML file of settings.", metavar="BOOTSTRAP"
    ),
]
Prefix = Annotated[str, typer.Option(help="Before the name of every topic there.")]
Instance = Annotated[
    str | None, typer.Option(help="Name of this worker: a restart under it moves no partition.")
]
Standby = Annotated[
    bool, typer.Option("--standby", help="Fold along, and take over when the others stop.")
]
Region = Annotated[
    bool, typer.Option("--region", help="Judge what the domains of a cluster share.")
]
MetricsPort = Annotated[int | None, typer.Option(help="Port for Prometheus.", min=0, max=65_535)]
Quiet = Annotated[bool, typer.Option("--quiet", help="Print no outputs.")]
Config = Annotated[
    Path | None,
    typer.Option(help="The site's collectors and actuators, run as well.", metavar="FILE"),
]
Enforce = Annotated[
    bool, typer.Option("--enforce", help="Its actuators carry out; else a dry run.")
]
Keep = Annotated[
    str | None,
    typer.Option(
        help="Age at which messages of a local log are dropped: 7d, of decisions 91d.",
        metavar="TIME",
    ),
]
KeepBytes = Annotated[
    str | None,
    typer.Option(help="Size of its file at which the oldest are dropped: 10GiB.", metavar="SIZE"),
]
KeySets = Annotated[
    list[Path] | None,
    typer.Option(
        help="Key set to believe; after the first, those for activate_keys.", metavar="FILE"
    ),
]
SigningKey = Annotated[
    Path | None, typer.Option(help="Our private key: signs what we say.", metavar="PEM")
]


@app.command(epilog="Example: firstfault run --local site --rules nfvi --for 1s")
def run(
    *,
    local: Folder = None,
    kafka: Cluster = None,
    prefix: Prefix = "",
    rules: Rules = "generic",
    topology: TopologyFile = None,
    domain: Annotated[str, typer.Option(help="Name of the domain.")] = "default",
    instance: Instance = None,
    standby: Standby = False,
    region: Region = False,
    metrics_port: MetricsPort = None,
    output: Output = Format.text,
    quiet: Quiet = False,
    duration: LASTS = None,
    config: Config = None,
    enforce: Enforce = False,
    keep: Keep = None,
    keep_bytes: KeepBytes = None,
    keys: KeySets = None,
    signing_key: SigningKey = None,
) -> None:
    """Fold a log as it grows, and append what is found and what is to be done about it.

    With --local alone on the log of a folder; with --kafka as one of any number of workers, which
    share the partitions of a cluster. Ends with Ctrl-C or SIGTERM. Nothing is lost: all of it is in
    the log, and is folded again.
    With --keys, commands, claims, results and edits of the topology count only if signed.
    With --region it folds no log: it judges, for all domains of a cluster, what several depend on
    (`shared:` in their map), by what their correlators say of it.
    """
    from firstfault.edges import EdgesConfig, read_edges

    if (local is None) == (kafka is None):
        raise BadInput("give the log: --local DIR, or --kafka BOOTSTRAP")
    if kafka is not None and (keep or keep_bytes):
        raise BadInput("--keep goes with --local; a cluster's topics have `retention.ms`")
    if region:
        if kafka is None or config is not None or standby or topology is not None:
            raise BadInput(
                "--region goes with --kafka, and not with --config, --standby, --topology"
            )
        kafka_given = _kafka_settings(kafka, prefix)
        lasts_s = seconds(duration)
        run_region(
            RegionOptions(kafka_given, instance, metrics_port, lasts_s, signing_key, keys or []),
            output,
            quiet=quiet,
        )
        return
    if kafka is not None and config is not None:
        raise BadInput("--config goes with --local; on Kafka, run `firstfault collect` and `act`")
    owner = owner_of(signing_key, keys or [])
    edges = read_edges(config) if config else EdgesConfig()
    ruleset, graph, report = open_site(rules, topology)
    say_report(report.lines())
    given = _Given(domain, graph, ruleset, owner)
    show = _shower(output, quiet=quiet)
    if local is not None:
        log = _Folder(local, _retention(keep, keep_bytes))
        _run_local(log, given, show, _Edges(edges, enforce), duration)
        return
    from firstfault.on_kafka import Wanted, own_name

    settings, name = _kafka_settings(str(kafka), prefix), own_name(instance)
    name = owner.name if owner.private_key else name
    wanted = Wanted(settings, name, instance, standby, metrics_port, seconds(duration))
    _run_kafka(wanted, given, show)


@dataclass(frozen=True)
class _Given:
    """What the options say of the domain; on Kafka, that of all that the map gives no file of."""

    domain: str
    topology: Topology
    rules: RuleSet
    owner: Owner

    def site(self, **more: Any) -> "Site":  # noqa: ANN401 - fields of a site
        """Return what a correlator works on, with what is said of it elsewhere."""
        from correlator.shell import Site

        own = {"domain": self.domain, "topology": self.topology, "owner": self.owner.name}
        keys = {"keys": self.owner.keys, "private_key": self.owner.private_key}
        return Site(rules=self.rules, **{**own, **keys, **more})


@dataclass(frozen=True)
class _Folder:
    """A local log, and how much of it is kept."""

    path: Path
    retention: "Retention"


def _retention(keep: str | None, keep_bytes: str | None) -> "Retention":
    """Return how much of a local log is kept.

    Raises:
        BadInput: it is no duration or size, or less than what a start needs.
    """
    from firstfault.log.local import KEPT_BYTES, KEPT_US, Retention

    size_bytes = KEPT_BYTES
    if keep_bytes is not None:
        try:
            size_bytes = int(TypeAdapter(ByteSize).validate_python(keep_bytes))
        except ValidationError:
            msg = f"--keep-bytes {keep_bytes}: no size, e.g. 500MB or 10GiB"
            raise BadInput(msg) from None
    kept_us = KEPT_US
    if keep is not None:
        kept_us = dict.fromkeys(KEPT_US, round(site.seconds("--keep", keep) * 1e6))
    if size_bytes < KEPT_BYTES_LEAST or min(kept_us.values()) < KEPT_US_LEAST:
        msg = "--keep and --keep-bytes: at least 1h and 100MB, to start again from what is kept"
        raise BadInput(msg)
    return Retention(kept_us, size_bytes)


@dataclass(frozen=True)
class _Edges:
    """What runs beside the correlator, and whether it acts."""

    config: "EdgesConfig"
    is_enforced: bool


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
    kept: _Folder,
    given: _Given,
    show: Callable[[Told], None],
    edges: _Edges,
    duration: str | None,
) -> None:
    from firstfault.consumer.gate import Trust
    from firstfault.edges import Duty, Place, edges_of, together
    from firstfault.local import Correlator, alone

    folder = kept.path
    trust = Trust(given.owner.keys[0] if given.owner.keys else None)
    duty = Duty(trust, edges.is_enforced)

    async def whole() -> None:
        opened = open_log(folder, None, must_exist=False, retention=kept.retention)
        async with opened as log, alone(folder):
            err.print(f"{folder}: reading the log of {given.domain}", markup=False)
            beside = edges_of(edges.config, Place(log, folder, say), duty)
            correlator = Correlator(log, given.site(), show)
            await together([correlator.run(), *(one.run() for one in beside)])

    spare_collections()
    run_until(whole, duration)


def _run_kafka(wanted: "Wanted", given: _Given, show: Callable[[Told], None]) -> None:
    from correlator.worker import Hooks
    from firstfault.on_kafka import block_signals, serve
    from firstfault.watchdog import run_to_the_end

    block_signals()
    err.print(f"{wanted.kafka.bootstrap}: {wanted.owner} joins", markup=False)
    hooks = Hooks(show, partial(err.print, markup=False), spare_collections)
    with suppress(asyncio.CancelledError):
        run_to_the_end(serve(wanted, partial(_sites, wanted, given), hooks))
    err.print("stopped")


def _sites(wanted: "Wanted", given: _Given, domains: DomainMap | None) -> dict[int, list["Site"]]:
    """Return what is in each partition; without a map, the one domain is in the first."""
    if domains is None:
        return {0: [given.site(owner=wanted.owner)]}
    sites: dict[int, list[Site]] = {}
    for one in domains.domains:
        graph = given.topology
        if one.topology is not None:
            graph, report = load_topology(Path(one.topology), given.rules.schema)
            say_report(report.lines())
        site = given.site(
            domain=one.name,
            topology=graph,
            owner=wanted.owner,
            log_generation=domains.log_generation,
        )
        sites.setdefault(one.partition, []).append(site)
    return sites


def _kafka_settings(text: str, prefix: str) -> KafkaSettings:
    """Return the settings of an address or a file; a prefix on the command line goes first."""
    from firstfault.kafka import kafka_settings

    found = kafka_settings(text)
    if not prefix:
        return found
    try:
        return KafkaSettings.model_validate({**found.model_dump(), "prefix": prefix})
    except ValidationError as error:
        msg = f"--prefix {prefix}: {first_fault(error)}"
        raise BadInput(msg) from None

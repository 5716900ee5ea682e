"""``firstfault incidents``: what a running site has found, as it stands now."""

from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from firstfault.cli.explain import at_its_best, explanation, find_incident, show_incident
from firstfault.cli.sentences import clock, confidence_text, plain, short
from firstfault.cli.site import DomainName, Kafka, Local, Where, in_site
from firstfault.cli.terminal import Commands, Format, Output, TopologyFile, app, out, say_json

if TYPE_CHECKING:
    from correlator.recorded import Record
    from firstfault.operations import Site
    from schemas.outputs import Incident

incidents = typer.Typer(
    cls=Commands, no_args_is_help=True, help="Show what a running site has found."
)
app.add_typer(incidents, name="incidents")


async def _record(site: "Site") -> "Record":
    """Return what the topics of a site hold, as a record of a replay holds it."""
    from correlator.recorded import Record, Said
    from correlator.topology import Topology
    from firstfault import operations
    from schemas.base import from_microseconds

    found = [pair for said in (await operations.incidents(site)).values() for pair in said]
    every = [*found, *await operations.decisions(site), *await operations.actions(site)]
    said = [
        Said.model_construct(
            case="",
            offset=record.offset,
            index=0,
            log_at=from_microseconds(record.log_us),
            output=output,  # type: ignore[arg-type]
        )
        for record, output in every
    ]
    return Record({}, said, Topology(), {})


@incidents.command(
    "list",
    epilog="Example: firstfault run --local site --for 1s && "
    "firstfault incidents list --local site --all",
)
def list_(
    *,
    local: Local = None,
    kafka: Kafka = None,
    domain: DomainName = "default",
    every: Annotated[bool, typer.Option("--all", help="Also those that have ended.")] = False,
    output: Output = Format.text,
) -> None:
    """Print each incident that stands: its state, cause and confidence."""
    from firstfault.operations import incidents

    found = in_site(Where(local, kafka, domain), incidents)
    last = [[one for _, one in said] for said in found.values()]
    shown = [said for said in last if every or said[-1].state != "cleared"]
    if output is Format.json:
        say_json([said[-1].model_dump(mode="json") for said in shown])
        return
    table = Table(
        "incident", "opened (UTC)", "state", "cause", "how sure", box=None, pad_edge=False
    )
    for said in shown:
        table.add_row(*_row(said))
    none = "no incident was ever found" if every else "no incident stands"
    out.print(table if shown else none)


def _row(said: "list[Incident]") -> tuple[str, ...]:
    best, last = at_its_best(said), said[-1]
    cause = f"{best.causes[0].signature} of {best.causes[0].entity}"
    opened = f"{last.opened_at[:10]} {clock(last.opened_at)}"
    sure = confidence_text(best.confidence).removeprefix("confidence ")
    return short(last.incident_id), opened, last.state, plain(cause), sure


@incidents.command(
    epilog="Example: firstfault run --local site --for 1s && "
    "firstfault incidents show last --local site"
)
def show(
    incident: Annotated[
        str, typer.Argument(help="Beginning of its id, or last.", metavar="INCIDENT")
    ],
    *,
    local: Local = None,
    kafka: Kafka = None,
    domain: DomainName = "default",
    topology: TopologyFile = None,
    output: Output = Format.text,
) -> None:
    """Explain an incident of a running site: its cause, evidence, decisions and actions."""
    from dataclasses import replace

    from correlator.importers import load_topology

    record = in_site(Where(local, kafka, domain), _record)
    if topology is not None:
        record = replace(record, topology=load_topology(topology)[0])
    if incident == "last" and not record.incidents():
        out.print("no incident was ever found")
        return
    said = find_incident(record, incident)
    if output is Format.json:
        say_json(explanation(record, said))
    else:
        show_incident(record, said)

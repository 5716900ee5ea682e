"""``firstfault maintenance``, ``hold``, ``release``, ``approve``, ``reject``, ``retry``, ``mode``.

An operator's words to a running site: appended to its log, signed, and answered by a decision.
"""

from dataclasses import asdict
from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from firstfault.cli.sentences import clock, plain
from firstfault.cli.site import (
    DomainName,
    Kafka,
    Local,
    Manner,
    Reason,
    Where,
    giving,
    in_site,
    moment,
    tell,
)
from firstfault.cli.terminal import (
    BadInput,
    Commands,
    Format,
    Output,
    TopologyFile,
    app,
    out,
    say_json,
)
from schemas.base import is_entity

if TYPE_CHECKING:
    from firstfault.operations import Site, Wanted
    from schemas.inputs import CommandName

MODES = ("enforce", "dry_run", "approve")
_ID = "95f37ba6344f91c6a6aa88decc2e43ba"
_ANYBODY = "--by operator:op-7 --wait 0s"

maintenance = typer.Typer(
    cls=Commands, no_args_is_help=True, help="Announce maintenance, and see what is announced."
)
app.add_typer(maintenance, name="maintenance")
Entity = Annotated[str, typer.Argument(help="e.g. host:compute-3.", metavar="ENTITY")]
IncidentName = Annotated[
    str, typer.Argument(help="Beginning of its id; see incidents list.", metavar="INCIDENT")
]
Anyway = Annotated[bool, typer.Option("--anyway", help="Also where nothing is known by that name.")]


@maintenance.command(
    epilog="Example: firstfault maintenance start host:h001 --until 2h --reason 'DIMM swap' "
    f"--local site --topology examples/rack-power/topology.json {_ANYBODY}"
)
@giving
def start(
    entity: Entity,
    *,
    until: Annotated[
        str, typer.Option(help="End: 2h, or 2026-11-23T10:00:00Z; then rules apply again.")
    ],
    reason: Reason,
    topology: TopologyFile = None,
    anyway: Anyway = False,
    manner: Manner,
) -> None:
    """Announce that an entity is worked on: its faults are expected, and nothing is done to it."""
    if not is_entity(entity):
        msg = f"{entity}: no entity, write kind:name, e.g. host:compute-3"
        raise BadInput(msg)
    ends = moment("--until", until)

    async def make(site: "Site", name: str) -> "Wanted":
        from correlator.importers import load_topology
        from firstfault.operations import entities

        if not anyway:
            known = await entities(site)
            known |= set(load_topology(topology)[0]) if topology else set()
            if entity not in known:
                more = "say --topology FILE, or --anyway to announce it all the same"
                raise _nothing_known(entity, known, more)
        return _wanted("maintenance_start", entity, name, reason, ends)

    tell(manner, make)


@maintenance.command(
    epilog="Example: firstfault maintenance end host:h001 --reason 'DIMM swapped' "
    f"--local site --anyway {_ANYBODY}"
)
@giving
def end(entity: Entity, *, reason: Reason, anyway: Anyway = False, manner: Manner) -> None:
    """End a maintenance session: rules apply to the entity again."""

    async def make(site: "Site", name: str) -> "Wanted":
        from firstfault.operations import sessions

        known = {one.entity for one in await sessions(site)}
        if not anyway and entity not in known:
            raise _nothing_known(entity, known, "no session stands there (--anyway ends it)")
        return _wanted("maintenance_end", entity, name, reason)

    tell(manner, make)


@maintenance.command(
    "list",
    epilog="Example: firstfault run --local site --for 1s && "
    "firstfault maintenance list --local site",
)
def list_(
    local: Local = None,
    kafka: Kafka = None,
    domain: DomainName = "default",
    output: Output = Format.text,
) -> None:
    """Print the maintenance sessions that stand: since when, by whom and why."""
    from firstfault.operations import sessions

    found = in_site(Where(local, kafka, domain), sessions)
    if output is Format.json:
        say_json([asdict(one) for one in found])
        return
    table = Table("entity", "since (UTC)", "until", "what was said", box=None, pad_edge=False)
    for one in found:
        since, until = (f"{at[:10]} {clock(at)}" if at else "?" for at in (one.since, one.until))
        table.add_row(plain(one.entity), since, until, plain(one.text))
    out.print(table if found else "no maintenance session stands")


@app.command(epilog=f"Example: firstfault hold --reason 'storage work' --local site {_ANYBODY}")
@giving
def hold(*, reason: Reason, manner: Manner) -> None:
    """Hold back everything destructive in a domain, until `release`."""
    _of_domain(manner, "hold", f"domain:{manner.where.domain}", reason)


@app.command(
    epilog=f"Example: firstfault release --reason 'storage is back' --local site {_ANYBODY}"
)
@giving
def release(*, reason: Reason, manner: Manner) -> None:
    """End a hold: plans that waited for it go on."""
    _of_domain(manner, "release", f"domain:{manner.where.domain}", reason)


@app.command(
    "mode",
    epilog=f"Example: firstfault mode dry_run --reason 'first week' --local site {_ANYBODY}",
)
@giving
def mode(
    wanted: Annotated[str, typer.Argument(help=", ".join(MODES), metavar="MODE")],
    *,
    reason: Reason,
    manner: Manner,
) -> None:
    """Set whether plans are carried out, only shown, or wait for an approval; open plans end."""
    if wanted not in MODES:
        msg = f"{wanted}: no mode; use {', '.join(MODES)}"
        raise BadInput(msg)
    _of_domain(manner, "set_mode", wanted, reason)


@app.command(
    epilog=f"Example: firstfault approve {_ID} --reason 'seen it' --local site --anyway {_ANYBODY}"
)
@giving
def approve(
    incident: IncidentName, *, reason: Reason, anyway: Anyway = False, manner: Manner
) -> None:
    """Let the plan of an incident be carried out that waits for a person."""
    _of_plan(manner, "approve", incident, reason, anyway=anyway)


@app.command(
    epilog=f"Example: firstfault reject {_ID} --reason 'a test' --local site --anyway {_ANYBODY}"
)
@giving
def reject(
    incident: IncidentName, *, reason: Reason, anyway: Anyway = False, manner: Manner
) -> None:
    """Forbid the plan of an incident; what is under way is taken back."""
    _of_plan(manner, "reject", incident, reason, anyway=anyway)


@app.command(
    epilog=f"Example: firstfault retry {_ID} --reason 'BMC is back' --local site --anyway "
    f"{_ANYBODY}"
)
@giving
def retry(
    incident: IncidentName, *, reason: Reason, anyway: Anyway = False, manner: Manner
) -> None:
    """Let what has failed of an incident's plan be tried once more."""
    _of_plan(manner, "retry", incident, reason, anyway=anyway)


# ---- what they share -----------------------------------------------------------------------


def _nothing_known(wanted: str, known: set[str], more: str) -> BadInput:
    from firstfault.operations import meant

    like = meant(wanted, known)
    hint = f"did you mean {' or '.join(like)}?" if like else more
    return BadInput(f"{wanted}: nothing known by that name; {hint}")


def _wanted(
    command: "CommandName", target: str, by: str, reason: str, until: datetime | None = None
) -> "Wanted":
    from firstfault.operations import Wanted

    return Wanted(command, target, by, reason, until)


def _of_domain(manner: Manner, command: "CommandName", target: str, reason: str) -> None:
    async def make(_: "Site", name: str) -> "Wanted":
        return _wanted(command, target, name, reason)

    tell(manner, make)


def _of_plan(
    manner: Manner, command: "CommandName", incident: str, reason: str, *, anyway: bool
) -> None:
    """Give a command about the plan of an incident, which may be named by its first digits."""

    async def make(site: "Site", name: str) -> "Wanted":
        from firstfault.operations import incidents

        known = set(await incidents(site))
        found = [incident] if anyway else [one for one in known if one.startswith(incident)]
        if len(found) > 1:
            msg = f"{incident} may be any of {', '.join(sorted(found)[:5])}"
            raise BadInput(msg)
        if not found:
            raise _nothing_known(incident, known, "see `firstfault incidents list`")
        return _wanted(command, found[0], name, reason)

    tell(manner, make)

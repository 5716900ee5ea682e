"""``firstfault explain``: one incident of a record, with all that speaks for and against it."""

from pathlib import Path
from typing import Annotated, Any

import networkx as nx
import typer
from rich.table import Table

from correlator.recorded import Record, read_record
from correlator.topology import Topology
from firstfault.cli.sentences import (
    ROLES,
    action_text,
    cause_text,
    clock,
    decision_line,
    incident_text,
    incident_title,
    is_news,
    plain,
    short,
)
from firstfault.cli.terminal import BadInput, Format, Output, app, out, say_json
from schemas.outputs import Evidence, Incident

ROWS_MAX = 15
"""Rows of a table of evidence; the weightiest come first, the rest is counted."""
CHAIN_MAX = 4
"""Entities named on the way from the cause to a symptom."""
_TITLES = {
    "for": "for it",
    "late": "explained by it, but outside its window",
    "against": "not explained by it",
    "missing": "expected and not seen",
}

RecordFolder = Annotated[
    Path, typer.Argument(help="Folder that replay --record wrote.", metavar="OUT")
]


def find_incident(record: Record, wanted: str) -> list[Incident]:
    """Return what was said of one incident, oldest first.

    Args:
        record: the record to look in.
        wanted: the beginning of its id, or ``last``.

    Raises:
        BadInput: no incident, or more than one, is meant.
    """
    incidents = record.incidents()
    if wanted == "last" and incidents:
        return list(incidents.values())[-1]
    found = [said for name, said in incidents.items() if name.startswith(wanted)]
    if len(found) != 1:
        many = ", ".join(short(said[0].incident_id) for said in found[:5])
        msg = f"no incident {wanted} in this record"
        raise BadInput(f"{wanted} may be any of {many}" if found else msg)
    return found[0]


def at_its_best(said: list[Incident]) -> Incident:
    """Return the last state of an incident that has evidence: the clearing has none."""
    return next((one for one in reversed(said) if one.evidence), said[-1])


def ways_from(topology: Topology, cause: str) -> dict[str, list[str]]:
    """Return, for each entity that depends on the cause or is near it, the way from the cause."""
    if cause not in topology:
        return {}
    graph = topology.graph()
    ways = nx.single_source_shortest_path(graph.to_undirected(as_view=True), cause, CHAIN_MAX)
    ways.update(nx.single_source_shortest_path(graph.reverse(copy=False), cause, 2 * CHAIN_MAX))
    return dict(ways)


def _way_text(way: list[str]) -> str:
    between = way[1:-1]
    if not way:
        return "not connected nearby"
    if not between:
        return "itself" if len(way) == 1 else "directly"
    shown = between if len(between) <= CHAIN_MAX else [between[0], "…", between[-1]]
    return f"by way of {', '.join(shown)}"


def _evidence_table(
    role: str, evidence: list[Evidence], ways: dict[str, list[str]], rows: int
) -> Table:
    table = Table(
        title=f"symptoms {_TITLES[role]}: {len(evidence)}", title_justify="left", box=None
    )
    for name in ("symptom", "entity", "nats"):
        table.add_column(name, justify="right" if name == "nats" else "left", no_wrap=True)
    table.add_column("expected" if role == "missing" else "first seen", no_wrap=True)
    table.add_column("path" if role == "missing" else "from the cause")
    for one in evidence[:rows]:
        entity = one.entity
        if role == "missing":
            others = one.count - 1
            entity += f" and {others} more" if others else ""
            seen, way = f"on {one.count}", one.at or "self"
        else:
            seen = f"{clock(one.first_at)}" + (f", {one.count} times" if one.count > 1 else "")
            way = _way_text(ways.get(one.entity, [])) if ways else ""
        table.add_row(plain(one.symptom), plain(entity), f"{one.weight:.2f}", seen, plain(way))
    if len(evidence) > rows:
        table.add_row(f"… and {len(evidence) - rows} more", "", "", "", "")
    return table


def explanation(record: Record, said: list[Incident]) -> dict[str, Any]:
    """Return all that a record holds of one incident, as one JSON value."""
    best = at_its_best(said)
    name = best.incident_id
    return {
        "incident": best.model_dump(mode="json"),
        "states": [
            {"update": one.update, "state": one.state, "at": one.updated_at} for one in said
        ],
        "rules": record.meta.get("rules"),
        "decisions": [
            d.model_dump(mode="json") for d in record.decisions() if d.incident_id == name
        ],
        "actions": [a.model_dump(mode="json") for a in record.actions() if a.incident_id == name],
    }


def show_incident(record: Record, said: list[Incident], rows: int = ROWS_MAX) -> None:
    """Print an incident: cause, runners-up, evidence, what was called before, what was decided."""
    best = at_its_best(said)
    rules = record.meta.get("rules", {})
    out.print(f"[bold]{plain(incident_title(best))}[/bold]")
    out.print(f"incident {best.incident_id} of domain {plain(best.domain)}")
    version = f"{rules.get('name', '?')} {rules.get('version', '?')}, hash {best.rules[:12]}"
    out.print(f"rule {plain(best.rule)}, pack {plain(version)}")
    if best.revises:
        out.print(f"called before: {plain(', '.join(best.revises))}")
    before: Incident | None = None
    for one in said:
        if is_news(one, before):
            text = plain(incident_text(one, before))
            out.print(f"  {clock(one.updated_at)}  {one.state:<9}  {text}")
            before = one
    _show_causes(best)
    ways = ways_from(record.topology, best.causes[0].entity)
    for role in ROLES:
        evidence = [one for one in best.evidence if one.role == role]
        if evidence:
            out.print()
            out.print(_evidence_table(role, evidence, ways, rows))
    _show_consequences(record, best.incident_id)


def _show_causes(best: Incident) -> None:
    table = Table(title="causes weighed", title_justify="left", box=None)
    table.add_column("")
    table.add_column("cause")
    table.add_column("score (nats)", justify="right")
    table.add_column("behind the first", justify="right")
    for place, cause in enumerate(best.causes, start=1):
        behind = best.causes[0].score - cause.score
        lag = f"{behind:.2f}" if place > 1 else ""
        table.add_row(f"{place}", plain(cause_text(cause)), f"{cause.score:.2f}", lag)
    out.print()
    out.print(table)
    sure = f"margin {best.margin:.2f} nats to the next best explanation"
    out.print(f"{sure}, so confidence {best.confidence:.6f}")


def _show_consequences(record: Record, incident_id: str) -> None:
    decisions = [d for d in record.decisions() if d.incident_id == incident_id]
    actions = [a for a in record.actions() if a.incident_id == incident_id]
    out.print(f"\n[bold]decided[/bold] ({len(decisions)})")
    for decision in decisions:
        out.print(f"  {clock(decision.decided_at)}  {decision_line(decision)}")
    out.print(f"[bold]actions[/bold] ({len(actions)})")
    for action in actions:
        out.print(f"  {plain(action_text(action))}")


def _list(record: Record, output: Format) -> None:
    incidents = list(record.incidents().values())
    if output is Format.json:
        say_json([said[-1].model_dump(mode="json") for said in incidents])
        return
    for said in incidents:
        best = at_its_best(said)
        text = plain(incident_title(best))
        out.print(
            f"{short(best.incident_id)}  {clock(best.opened_at)}  {said[-1].state:<9}  {text}"
        )
    if not incidents:
        out.print("no incident in this record")


@app.command(
    epilog="Example: firstfault replay examples/lag-flap --record out && "
    "firstfault explain out last"
)
def explain(
    folder: RecordFolder,
    incident: Annotated[
        str | None,
        typer.Argument(help="Beginning of its id, or last; none lists them.", metavar="INCIDENT"),
    ] = None,
    output: Output = Format.text,
) -> None:
    """Explain an incident: its cause, the runners-up, the evidence for and against, the rule."""
    record = read_record(folder)
    if incident is None:
        _list(record, output)
        return
    said = find_incident(record, incident)
    if output is Format.json:
        say_json(explanation(record, said))
    else:
        show_incident(record, said)

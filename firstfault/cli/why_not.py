"""``firstfault why-not``: why nothing, or nothing more, was done to an entity; in sentences."""

from collections.abc import Iterator
from typing import Annotated

import networkx as nx
import typer

from correlator.recorded import Record, read_record
from firstfault.cli.explain import RecordFolder, at_its_best
from firstfault.cli.sentences import action_text, cause_text, clock, plain, short
from firstfault.cli.terminal import BadInput, Format, Output, app, out, say_json
from schemas.outputs import Incident

Reason = tuple[str, str]
"""(enumerated, sentence)."""


def reasons(record: Record, entity: str) -> list[Reason]:
    """Return every reason the record holds, the most telling first.

    Raises:
        BadInput: the record knows nothing of such an entity.
    """
    incidents = [at_its_best(said) for said in record.incidents().values()]
    own = [one for one in incidents if one.causes[0].entity == entity]
    told = [*_acted(record, entity), *_decided(record, entity), *_as_cause(own)]
    told += [reason for one in incidents if one not in own for reason in _inside(one, entity)]
    if not own and not any(code == "explained" for code, _ in told):
        told += _below(record, incidents, entity)
    if entity not in record.topology and entity not in record.alarms and not told:
        msg = f"{entity}: neither in the topology nor in anything that was said"
        raise BadInput(msg)
    told += _alarms(record, entity, involved=bool(told))
    return list(dict.fromkeys(told))


def _acted(record: Record, entity: str) -> Iterator[Reason]:
    for action in record.actions():
        if action.target == entity:
            yield "acted", f"There was an action: {action_text(action)}."


def _decided(record: Record, entity: str) -> Iterator[Reason]:
    for decision in record.decisions():
        if decision.entity != entity or decision.verdict == "act":
            continue
        word = {"wait": "It was waited", "refuse": "It was refused", "note": "It was noted"}
        when = clock(decision.decided_at)
        yield decision.reason, f"{word[decision.verdict]} at {when}: {decision.text}."


def _as_cause(own: list[Incident]) -> Iterator[Reason]:
    for one in own:
        name = f"incident {short(one.incident_id)}"
        if one.state == "suspected":
            yield (
                "suspected",
                f"It was only suspected, as the cause of {name}: confidence "
                f"{one.confidence:.3f}, {one.margin:.2f} nats before the next best explanation.",
            )
        else:
            yield "cause", f"It was named as the cause of {name}: {cause_text(one.causes[0])}."


def _inside(incident: Incident, entity: str) -> Iterator[Reason]:
    name, cause = f"incident {short(incident.incident_id)}", cause_text(incident.causes[0])
    for place, rival in enumerate(incident.causes[1:], start=2):
        if rival.entity == entity:
            behind = incident.causes[0].score - rival.score
            text = f"As the cause of {name} it came {place}., {behind:.2f} nats behind {cause}."
            yield "runner_up", text
    for one in incident.evidence:
        if entity != one.entity and entity not in one.others:
            continue
        if one.role in ("for", "late"):
            yield "explained", f"Its {one.symptom} is explained by {name}: {cause}."
        elif one.role == "against":
            yield "unexplained", f"Its {one.symptom} is not explained by {name}, {cause}."
        else:
            yield "missing", f"Its {one.symptom} was expected from {cause} ({name}) and not seen."


def _below(record: Record, incidents: list[Incident], entity: str) -> Iterator[Reason]:
    """Incidents list their weightiest symptoms only; the graph says what else hangs on a cause."""
    if entity not in record.topology:
        return
    above = nx.descendants(record.topology.graph(), entity)
    for one in incidents:
        if one.causes[0].entity in above:
            name, cause = f"incident {short(one.incident_id)}", cause_text(one.causes[0])
            yield "below", f"It depends on the cause of {name}: {cause}."


def _alarms(record: Record, entity: str, *, involved: bool) -> Iterator[Reason]:
    alarms = record.alarms.get(entity)
    if alarms is None:
        yield "never_alarmed", "It never raised an alarm in this recording."
        return
    signals = ", ".join(f"{name} ({count})" for name, count in sorted(alarms.signals.items()))
    yield "alarmed", f"It raised {alarms.raised} alarms: {signals}."
    if not involved:
        yield (
            "below_threshold",
            "No incident came of them: no rule speaks of these signals, or all of them together "
            "are likelier by chance than by any fault the rules know.",
        )


@app.command(
    "why-not",
    epilog="Example: firstfault replay examples/lag-flap --record out && "
    "firstfault why-not out vm:vm00005",
)
def why_not(
    folder: RecordFolder,
    entity: Annotated[str, typer.Argument(help="For example host:h002.", metavar="ENTITY")],
    output: Output = Format.text,
) -> None:
    """Say why nothing, or nothing more, was done to an entity."""
    told = reasons(read_record(folder), entity)
    if output is Format.json:
        say_json([{"reason": code, "text": text} for code, text in told])
        return
    out.print(f"[bold]{plain(entity)}[/bold]")
    for code, text in told:
        out.print(f"- {plain(text)} [dim]({code})[/dim]")

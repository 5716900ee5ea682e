"""What the engine says, in the shapes of `schemas.outputs`: incidents with their evidence. Pure."""

import math
from collections.abc import Iterator

from correlator.inference import Look, Verdict
from correlator.rules.paths import path_text
from correlator.rules.ruleset import RuleSet
from correlator.state import EngineState, IncidentState, SymptomKey
from schemas.base import from_microseconds
from schemas.outputs import Cause, Evidence, Incident

EVIDENCE_MAX = 40
"""Symptoms listed per incident, the weightiest first; a storm has thousands of equal ones."""
MISSING_NAMED_MAX = 3
"""Entities named for each kind of missing symptom."""


def moment(time_us: int) -> str:
    """Return a log time as text."""
    return from_microseconds(time_us)


def incident(look: Look, state_of: IncidentState, verdict: Verdict, state: EngineState) -> Incident:
    """Return an incident as it stands after a look, with evidence for, late, against, missing."""
    index = verdict.candidate.fault[0]
    signature = look.rules.signatures[index]
    shown = sorted(
        [*_shown(look, verdict), *_against(look, verdict)],
        key=lambda e: (-e.weight, e.symptom, e.entity),
    )
    missing = list(_missing(look, verdict))
    return _message(
        state_of, state, shown[:EVIDENCE_MAX] + missing, f"{signature.name} ({signature.location})"
    )


def ended(state_of: IncidentState, state: EngineState, rules: RuleSet) -> Incident:
    """Return the last word on an incident."""
    location = rules.locations.get(f"signature:{state_of.fault[0]}")
    return _message(state_of, state, [], f"{state_of.fault[0]} ({location})")


def _message(
    state_of: IncidentState, state: EngineState, evidence: list[Evidence], rule: str
) -> Incident:
    return Incident(
        incident_id=state_of.incident_id,
        domain=state.domain,
        update=state_of.update,
        state=state_of.state,  # type: ignore[arg-type]
        opened_at=moment(state_of.opened_us),
        updated_at=moment(state_of.updated_us),
        onset_at=moment(state_of.onset_us),
        confidence=state_of.confidence,
        margin=state_of.margin,
        causes=[
            Cause(entity=entity, signature=name, score=score)
            for name, entity, score in state_of.ranking
        ],
        evidence=evidence,
        rules=state.rules_hash,
        rule=rule,
        revises=state_of.revises,
    )


def _one(look: Look, key: SymptomKey, role: str, weight: float) -> Evidence:
    sighting = look.sightings[key]
    return Evidence(
        symptom=key[0],
        entity=key[1],
        role=role,  # type: ignore[arg-type]
        weight=round(weight, 6),
        first_at=moment(sighting.first_us),
        count=sighting.count,
        event_ids=list(sighting.event_ids),
        sources=list(sighting.witnesses) or [sighting.source],
    )


def _shown(look: Look, verdict: Verdict) -> Iterator[Evidence]:
    candidate = verdict.candidate
    for key, p in (*candidate.support.items(), *candidate.optional.items()):
        leak = look.leak(key)
        yield _one(look, key, "for", math.log((1.0 - (1.0 - leak) * (1.0 - p)) / leak))
    for key in verdict.candidate.late:
        yield _one(look, key, "late", 0.0)


def _against(look: Look, verdict: Verdict) -> Iterator[Evidence]:
    for key in sorted(verdict.unexplained):
        yield _one(look, key, "against", -1.0)


def _missing(look: Look, verdict: Verdict) -> Iterator[Evidence]:
    fault = verdict.candidate.fault
    column = look.codebook.column(fault)
    if column is None:
        return
    for index, cell in enumerate(look.rules.signatures[fault[0]].cells):
        if cell.optional:
            continue
        shown = (*verdict.candidate.support, *verdict.candidate.late)
        seen = [key[1] for key in shown if key[0] in cell.symptoms]
        expected = sum(total for (at, _), total in column.totals.items() if at == index)
        absent = look.codebook.missing(fault, index, seen, expected)
        if absent:
            yield Evidence(
                symptom=cell.symptoms[0],
                entity=absent[0],
                at=path_text(cell.path),
                others=absent[1:MISSING_NAMED_MAX],
                role="missing",
                weight=round(len(absent) * math.log1p(-cell.p), 6),
                count=len(absent),
            )

"""What the engine says, in the shapes of `schemas.outputs`: incidents with their evidence. Pure."""

import heapq
import math
from collections.abc import Iterator

from correlator.inference import Verdict
from correlator.rules.paths import path_text
from correlator.rules.ruleset import RuleSet
from correlator.state import EngineState, IncidentState, Sighting, SymptomKey
from correlator.weighing import Look
from schemas.base import from_microseconds
from schemas.outputs import Cause, Evidence, Incident

EVIDENCE_MAX = 40
"""Symptoms listed per incident, the weightiest first; a storm has thousands of equal ones."""
MISSING_NAMED_MAX = 3
"""Entities named for each kind of missing symptom."""


def moment(state: EngineState, live_us: int) -> str:
    """Return as text what the log's own stamps said at a live time."""
    return from_microseconds(state.stamp_us(live_us))


def incident(look: Look, state_of: IncidentState, verdict: Verdict, state: EngineState) -> Incident:
    """Return an incident as it stands after a look, with evidence for, late, against, missing."""
    index = verdict.candidate.fault[0]
    signature = look.rules.signatures[index]
    told = heapq.nsmallest(EVIDENCE_MAX, _told(look, verdict), key=lambda one: (-one[0], one[1]))
    evidence = [_one(look, state, key, role, weight) for weight, key, role in told]
    evidence += _missing(look, verdict)
    return _message(state_of, state, evidence, f"{signature.name} ({signature.location})")


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
        opened_at=moment(state, state_of.opened_us),
        updated_at=moment(state, state_of.updated_us),
        onset_at=moment(state, state_of.onset_us),
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


def _one(look: Look, state: EngineState, key: SymptomKey, role: str, weight: float) -> Evidence:
    sighting = look.sightings[key]
    return Evidence.model_construct(  # Our own values, all given: forty times an update.
        at="",
        others=[],
        symptom=key[0],
        entity=key[1],
        role=role,  # type: ignore[arg-type]
        weight=round(weight, 6),
        first_at=moment(state, sighting.first_us),
        count=sighting.count,
        event_ids=list(sighting.event_ids),
        sources=_witnesses(sighting),
    )


def _witnesses(sighting: Sighting) -> list[str]:
    """Return who saw a symptom, the first first, in an order that outlives a snapshot."""
    seen = sighting.witnesses
    return sorted(seen, key=lambda name: (seen[name], name)) or [sighting.source]


def _told(look: Look, verdict: Verdict) -> Iterator[tuple[float, SymptomKey, str]]:
    """Yield what was seen: (weight, symptom, role)."""
    candidate = verdict.candidate
    for part in (candidate.support, candidate.optional):
        for key, p in part.items():
            leak = look.leak(key)
            yield math.log((1.0 - (1.0 - leak) * (1.0 - p)) / leak), key, "for"
    for key in candidate.late:
        yield 0.0, key, "late"
    for key in verdict.unexplained:
        yield -1.0, key, "against"


def _missing(look: Look, verdict: Verdict) -> Iterator[Evidence]:
    profile = verdict.candidate.profile
    cells = look.rules.signatures[profile.fault[0]].cells
    counts: dict[int, int] = {}
    for (index, _), total in profile.totals.items():
        counts[index] = counts.get(index, 0) + total
    for (index, _, _), listed in profile.times.items():
        counts[index] = counts.get(index, 0) - len(listed)
    absent = look.codebook.missing(profile.fault, look.sightings, MISSING_NAMED_MAX)
    for index, named in sorted(absent.items()):
        cell, count = cells[index], max(counts[index], len(named))
        if not cell.optional:
            yield Evidence(
                symptom=cell.symptoms[0],
                entity=named[0],
                at=path_text(cell.path),
                others=named[1:],
                role="missing",
                weight=round(count * math.log1p(-cell.p), 6),
                count=count,
            )

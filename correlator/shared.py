"""What several domains depend on: what this one tells of it, and what it waits for the region.

The region's first verdict on a resource makes it known as shared; from then on a domain tells what
it thinks of it whenever that changes. A cause that a shared resource rivals is ambiguous: it waits
for the region's word for a moment, and until there is one nothing destructive leaves. Called by the
engine and the guards. Source: the wire page, `firstfault.region.v1`.
"""

import math
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import replace

from correlator.domain import Domain
from correlator.standing import SETTLED
from correlator.state import EngineState, IncidentState, Shared
from schemas.base import from_microseconds, to_microseconds
from schemas.inputs import Verdict
from schemas.outputs import Digest

ASK_US = 300_000
"""How long an ambiguous cause waits for the region's word."""
SURE = (0.9, 0.99, 0.999)
"""Passing one of these, up or down, is news for the region as well."""


def tell(domain: Domain) -> None:
    """Say what has changed in what this domain knows of each shared resource."""
    state = domain.state
    found: dict[str, tuple[bool, float, str]] = {}
    for name, incident in sorted(state.incidents.items()):
        for resource, is_named, confidence in _suspects(state, incident):
            if domain.holding(incident.fault[1]):  # else it recovers already
                found[resource] = max(
                    (is_named, confidence, name), found.get(resource, (False, 0.0, ""))
                )
    for resource in sorted(state.shared):
        is_named, confidence, name = found.get(resource, (False, 0.0, ""))
        what = ("failed" if is_named else "suspected") if name else "working"
        _tell(domain, resource, what, confidence, name)


def _tell(domain: Domain, resource: str, what: str, confidence: float, name: str) -> None:
    state, known = domain.state, domain.state.shared[resource]
    told = f"{what} {bisect_right(SURE, confidence)}"
    if told == known.told:
        return
    if what == "working":
        known = replace(known, asked_us=None)
    elif known.asked_us is None:  # What was said before is no answer, unless it is that it failed.
        said = known.word if known.word == "failed" else ""
        known = replace(known, asked_us=state.live_us, word=said)
    state.shared[resource] = replace(known, told=told)
    domain.out.append(
        Digest(
            domain=state.domain,
            log_generation=state.log_generation,
            resource=resource,
            state=what,  # type: ignore[arg-type]
            confidence=confidence,
            incident_id=name or None,
            told_at=from_microseconds(state.log_us),
        )
    )


def _suspects(state: EngineState, incident: IncidentState) -> Iterator[tuple[str, bool, float]]:
    """Yield (resource, whether it is named well enough to act upon, confidence)."""
    if not state.shared:
        return
    (_, root, gain), *rivals = incident.ranking
    if root in state.shared:
        yield root, incident.state == "open", incident.confidence
    for _, rival, score in rivals:
        if rival in state.shared and score > gain - SETTLED:
            yield rival, False, round(1.0 / (1.0 + math.exp(gain - score)), 6)


def word(state: EngineState, resource: str) -> str:
    """Return what the region says of a resource now: failed, working, unknown or, yet, nothing."""
    known = state.shared[resource]
    is_over = known.until_us is not None and state.log_us >= known.until_us
    return "unknown" if is_over and known.word else known.word


def unanswered(state: EngineState, incident: IncidentState) -> tuple[str, int | None] | None:
    """Return the shared resource that makes a cause ambiguous while the region says nothing of it.

    With it the live time until which its word is waited for; None where it has said that it does
    not know, or has not answered in time.
    """
    for resource, is_named, _ in _suspects(state, incident):
        said, asked_us = word(state, resource), state.shared[resource].asked_us
        if is_named or said == "failed":
            continue
        if asked_us is None:  # It is asked at the end of this step.
            return resource, state.live_us + ASK_US
        if said != "working":
            is_late = said == "unknown" or state.live_us >= asked_us + ASK_US
            return resource, None if is_late else asked_us + ASK_US
    return None


def hear(domain: Domain, given: Verdict) -> bool:
    """Keep the region's word on a resource of this domain; claim that it is one.

    It asks again who answers, so that plans that wait for it are made anew. Where the region does
    not know it is told anew what is thought here: it may have started just now.
    """
    state = domain.state
    if given.resource not in state.topology:
        state.count("verdicts_elsewhere")
        return False
    until_us = to_microseconds(given.expires_at) if given.expires_at else None
    known = state.shared.get(given.resource, Shared())
    told = "" if given.state == "unknown" else known.told
    state.shared[given.resource] = replace(known, word=given.state, until_us=until_us, told=told)
    if until_us is not None:
        state.wake(state.live_us + max(0, until_us - state.log_us), "word", given.resource)
    for name, incident in sorted(state.incidents.items()):
        if any(given.resource == row[1] for row in incident.ranking):
            state.wake(state.live_us, "plan", name)
    return True

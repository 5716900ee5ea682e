"""A guest that is not where the inventory has it goes silent with a host it is not known to be on.

No column holds that, so the guest, or what it was thought to stand on, looks like a cause of its
own. Pure; called by the inference with each cause it has chosen. Keeps: what only the cause's own
end shows counts for that in full.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from correlator.codebook import Fault
from correlator.profiles import Candidate, Place
from correlator.weighing import Look
from schemas.base import kind_of

HOSTED_BY = "hosted_by"
"""The relation that says where a guest is."""
FEW = 8
"""Symptoms from which on a fault may have taken along a guest that it is not known to hold."""
AT_ONCE_US = 1_000_000
"""Onsets are no better known than this: the periods of what watches guests."""


@dataclass(frozen=True, slots=True)
class Crowd:
    """A fault that many show, and how many of each kind it may take with it."""

    fault: Fault
    onset_us: int
    totals: dict[Place, int]


def margin(look: Look, own: Candidate, chosen: Iterable[Candidate]) -> float:
    """Return the nats by which a fault beats that its guests are elsewhere, with a crowd.

    Both explain the silence alike. So what the fault costs, and what it alone shows, stands against
    the chance that the inventory is wrong about these guests and has them on none of those that
    failed. That a fault began with another is chance as well, the less likely the closer they are.
    """
    guests = _guests(look, own)
    if not look.knobs.misplaced or not guests:
        return math.inf
    kind, since_us = kind_of(min(guests)), _silent_since(look, own, guests)
    known = look.codebook.topology.kind_counts[kind]
    margins = (
        own.base
        + _only_its_own(look, own, crowd)
        - len(guests) * math.log(look.knobs.misplaced * share / known)
        - _coincidence(look, since_us - crowd.onset_us)
        for crowd in _crowds(look, chosen)
        if (share := _guests_below(crowd, kind)) > 1 and _is_then(look, own, since_us, crowd, kind)
    )
    return min(margins, default=math.inf)


def may_be(look: Look, own: Candidate) -> bool:
    """Claim that only silence is known of guests, which where they are does not matter to.

    What is nearly never seen by chance comes from one who knows the guest's end.
    """
    if not look.knobs.misplaced or not _guests(look, own):
        return False
    symptoms = look.rules.symptoms
    return all(
        not symptoms[name].is_certain and _guest(look, entity) is not None
        for name, entity in own.support
    )


def _guests(look: Look, own: Candidate) -> set[str]:
    """Return the guests whose silence a fault is told by: itself, or those that stand on it."""
    guest = _guest(look, own.fault[1])
    if guest is not None:
        return {guest}
    topology = look.codebook.topology
    below = {
        node
        for node in topology.down.get(own.fault[1], ())
        if any(name == HOSTED_BY for _, name in topology.up[node])
    }
    silent = {_guest(look, entity) for _, entity in own.support} if below else set()
    return {guest for guest in silent if guest in below}


def _guest(look: Look, entity: str) -> str | None:
    """Return the guest that an entity is, or that it runs on."""
    up = look.codebook.topology.up
    near = (entity, *(to for to, _ in up.get(entity, ())))
    return next((one for one in near if any(name == HOSTED_BY for _, name in up[one])), None)


def _crowds(look: Look, chosen: Iterable[Candidate]) -> Iterator[Crowd]:
    """Yield the faults that took more with them: chosen in this look, or granted before.

    What is granted is taken as its incident has it: a profile is as old as the last that asked.
    """
    standing = look.standing
    for one in chosen:
        if len(one.shows) >= FEW:
            yield Crowd(one.fault, one.onset_us, one.profile.totals)
    for name in sorted(standing.settled):
        settled = standing.settled[name]
        column = look.codebook.column(settled.fault)
        if column is not None and len(standing.evidence.get(name, ())) >= FEW:
            yield Crowd(settled.fault, settled.onset_us, column.totals)


def _silent_since(look: Look, own: Candidate, guests: set[str]) -> int:
    """Return when guests began to be silent: what was lost first may be too old for the fault."""
    on = look.standing.on({own.fault[1], *guests})
    firsts = [one.first_us for key in on if (one := look.sightings[key]).cleared_us is None]
    return min([own.onset_us, *firsts])


def _is_then(look: Look, own: Candidate, since_us: int, crowd: Crowd, kind: str) -> bool:
    """Claim that guests went silent while a crowd did."""
    signature = look.rules.signatures[crowd.fault[0]]
    cells = (signature.cells[cell] for cell, of in crowd.totals if of == kind)
    within_us = max((cell.within_us for cell in cells if not cell.optional), default=0)
    late_us, lateness_us = since_us - crowd.onset_us, look.rules.lateness_us
    return crowd.fault != own.fault and -lateness_us <= late_us <= within_us + lateness_us


def _coincidence(look: Look, apart_us: int) -> float:
    """Return the nats by which two faults so close to each other are rarer than each by itself.

    A prior is the chance of a fault in the time that one incident takes.
    """
    window_us = look.knobs.settle * 1e6
    return max(0.0, math.log(window_us / max(abs(apart_us), AT_ONCE_US)))


def _guests_below(crowd: Crowd, kind: str) -> int:
    return max((total for (_, of), total in crowd.totals.items() if of == kind), default=0)


def _only_its_own(look: Look, own: Candidate, crowd: Crowd) -> float:
    """Return what those symptoms are worth that a crowd never shows on a guest, or not so late."""
    until_us: dict[str, int] = {}
    for cell in look.rules.signatures[crowd.fault[0]].cells:
        for name in cell.symptoms:
            until_us[name] = max(until_us.get(name, 0), cell.within_us + look.rules.lateness_us)
    return sum(
        math.log(p / look.leak(key) + 1.0 - p)
        for key, p in own.support.items()
        if _guest(look, key[1]) is None
        or look.sightings[key].first_us - crowd.onset_us > until_us.get(key[0], -1)
    )

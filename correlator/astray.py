"""A guest that is not where the inventory has it goes silent with a host it is not known to be on.

No column holds that, so the guest looks like a cause of its own. Pure; called by the inference with
each cause it has chosen. Keeps: what only the guest's own end shows counts for that in full.
"""

import math
from collections.abc import Iterable, Iterator

from correlator.codebook import Fault
from correlator.profiles import Candidate, Profile
from correlator.weighing import Look
from schemas.base import kind_of

HOSTED_BY = "hosted_by"
"""The relation that says where a guest is."""
FEW = 8
"""Symptoms from which on a fault may have taken along a guest that it is not known to hold."""
CERTAIN_SPURIOUS = 1e-5
"""A symptom this unlikely to be seen by chance comes from one who knows the guest's end."""


def margin(look: Look, own: Candidate, chosen: Iterable[Candidate]) -> float:
    """Return the nats by which a guest's own fault beats that it is elsewhere, with a crowd.

    Both explain the silence alike. So what the fault costs, and what it alone shows, stands against
    the chance that the inventory is wrong about this guest and has it on none of those that failed.
    """
    chance, guest = look.knobs.misplaced, _guest(look, own.fault[1])
    if not chance or guest is None:
        return math.inf
    kind, since_us = kind_of(guest), _silent_since(look, own, guest)
    guests = len(look.codebook.topology.of_kind(kind))
    crowds = (one for one in _crowds(look, chosen) if _is_then(look, own, since_us, one, kind))
    margins = (
        own.base + _only_its_own(look, own, crowd.fault) - math.log(chance * share / guests)
        for crowd in crowds
        if (share := _guests_below(crowd, kind)) > 1
    )
    return min(margins, default=math.inf)


def may_be(look: Look, own: Candidate) -> bool:
    """Claim that all that is known of a guest is silence, which where it is does not matter to."""
    if not look.knobs.misplaced or _guest(look, own.fault[1]) is None:
        return False
    symptoms = look.rules.symptoms
    return all(symptoms[name].spurious > CERTAIN_SPURIOUS for name, _ in own.support)


def _guest(look: Look, entity: str) -> str | None:
    """Return the guest that an entity is, or that it runs on."""
    up = look.codebook.topology.up
    near = (entity, *(to for to, _ in up.get(entity, ())))
    return next((one for one in near if any(name == HOSTED_BY for _, name in up[one])), None)


def _crowds(look: Look, chosen: Iterable[Candidate]) -> Iterator[Profile]:
    """Yield the faults that took more with them: chosen in this look, or granted before."""
    standing = look.standing
    yield from (one.profile for one in chosen if len(one.shows) >= FEW)
    for name in sorted(standing.settled):
        is_crowd = len(standing.evidence.get(name, ())) >= FEW
        profile = look.profile(standing.settled[name].fault) if is_crowd else None
        if profile is not None:
            yield profile


def _silent_since(look: Look, own: Candidate, guest: str) -> int:
    """Return when a guest began to be silent: what it lost first may be too old for its fault."""
    on = look.standing.on(dict.fromkeys((own.fault[1], guest)))
    firsts = [one.first_us for key in on if (one := look.sightings[key]).cleared_us is None]
    return min([own.onset_us, *firsts])


def _is_then(look: Look, own: Candidate, since_us: int, crowd: Profile, kind: str) -> bool:
    """Claim that a guest went silent while a crowd did."""
    signature = look.rules.signatures[crowd.fault[0]]
    cells = (signature.cells[cell] for cell, of in crowd.totals if of == kind)
    within_us = max((cell.within_us for cell in cells if not cell.optional), default=0)
    late_us, lateness_us = since_us - crowd.onset_us, look.rules.lateness_us
    return crowd.fault != own.fault and -lateness_us <= late_us <= within_us + lateness_us


def _guests_below(crowd: Profile, kind: str) -> int:
    return max((total for (_, of), total in crowd.totals.items() if of == kind), default=0)


def _only_its_own(look: Look, own: Candidate, crowd: Fault) -> float:
    """Return what those symptoms of a guest are worth that the fault of a crowd never shows."""
    shown = {name for cell in look.rules.signatures[crowd[0]].cells for name in cell.symptoms}
    return sum(
        math.log(p / look.leak(key) + 1.0 - p)
        for key, p in own.support.items()
        if key[0] not in shown
    )

"""What stands about a step, who saw it and over which networks, and what an entity stands on.

Look-ups for guards and planner; they decide nothing. A fact has three values: raised, cleared,
and unknown, which is neither (H23).
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

from correlator.domain import Domain
from correlator.plans import PlannedStep
from correlator.rules.paths import parse_path, walk
from correlator.state import Sighting, SymptomKey
from schemas.base import kind_of
from schemas.rules import Limits, Seen

FAILURE_GROUPS = tuple(map(parse_path, ("^rack", "^switch", "^pool", "^path.^pool")))
"""What fails together, from an entity; shared power and switches of a pair come by the rack."""
ANCESTORS_MAX = 64
"""Entities an observer may stand on before it counts as outside."""
EVIDENCE_MAX = 10
"""Event ids an action carries."""
CONTRADICTING = 3
"""Witnesses who see a host silent, but not on a plane that one more tells of: a tenth of messages
may be lost, but not three of three."""
DUMPING = "os.kdump"
"""Symptom of a host whose kernel tells that it dumps."""
PANIC = "os.panic"
"""Symptom of a host whose kernel told of its end."""
POWER_OFF = "hw.power.off"
"""Symptom of a host whose power was read as off."""


def standing(step: PlannedStep, since_us: int = 0) -> list[tuple[SymptomKey, Sighting]]:
    """Return what stands on the root or the targets of a step and belongs to its incident.

    Only what was told since a live time; what nobody knows any more is left out.
    """
    domain, own = step.plan.domain, step.plan.incident.incident_id
    about = sorted({step.plan.root, *step.targets})
    found = [(key, domain.state.sightings[key]) for key in domain.standing.on(about)]
    return [
        (key, one)
        for key, one in found
        if one.incident == own and value(one) == "raised" and one.last_us >= since_us
    ]


@dataclass(frozen=True, slots=True)
class Accusation:
    """What one observer, who does not stand on what it accuses, says of it."""

    since_us: int
    source: str
    planes: tuple[str, ...]
    """Networks over which it saw this."""


def accusations(step: PlannedStep, since_us: int = 0) -> list[Accusation]:
    """Return what is testified of the root or a target, the oldest first.

    Only what was told since a live time. What one observer tells by several ways is his alone; a
    network that neighbours lost at the same time says nothing of this one (H7).
    """
    domain, about = step.plan.domain, {step.plan.root, *step.targets}
    found: list[Accusation] = []
    for key, one in standing(step, since_us):
        within_us = _together_us(step, key[0])
        is_alone = step.plan.incident.is_released or not one.planes
        near = [] if is_alone else _lost_nearby(domain, key)
        for source, at_us in one.witnesses.items():
            seen = {plane for plane, names in one.planes.items() if source in names}
            shared = {plane for plane, their_us in near if abs(their_us - at_us) <= within_us}
            is_new = one.told_us.get(source, one.last_us) >= since_us
            if is_new and (not seen or seen - shared):
                name = source.partition("/")[0]
                found.append(Accusation(at_us, name, tuple(sorted(seen - shared))))
    names = {one.source for one in found}
    inside = {name for name in names if not about.isdisjoint(below(domain, name))}
    outside = (one for one in found if one.source not in inside)
    return sorted(outside, key=lambda one: (one.since_us, one.source, one.planes))


def _together_us(step: PlannedStep, symptom: str) -> int:
    """Return within what time a symptom of two entities is of one cause: as long as it may take."""
    domain, fault = step.plan.domain, step.plan.incident.fault[0]
    cells = domain.rules.signatures[domain.signature_index[fault]].cells
    lasts_us = [cell.within_us for cell in cells if symptom in cell.symptoms]
    return max([round(domain.rules.limits.together * 1e6), *lasts_us])


def groups(domain: Domain, entity: str) -> set[str]:
    """Return what fails together with an entity."""
    topology = domain.state.topology
    return {one for path in FAILURE_GROUPS for one in walk(topology, entity, path)}


def stands_in(step: PlannedStep) -> set[str]:
    """Return what fails together with the root of a step, or with a host that the step ends."""
    domain, hosts = step.plan.domain, (one for one in step.targets if kind_of(one) == "host")
    about = {step.plan.root, *(hosts if step.verb == "fence" else ())}
    return {group for one in about for group in groups(domain, one)}


def is_lost_nearby(step: PlannedStep) -> bool:
    """Claim that a neighbour shows some of what stands: its end may make more of this count."""
    return any(_lost_nearby(step.plan.domain, key) for key, _ in standing(step))


def _lost_nearby(domain: Domain, key: SymptomKey) -> list[tuple[str, int]]:
    """Return (network, since when) over which a neighbour shows the same symptom now."""
    state, (symptom, entity) = domain.state, key
    path = parse_path(kind_of(entity))
    near = {one for group in groups(domain, entity) for one in walk(state.topology, group, path)}
    theirs = (state.sightings.get((symptom, other)) for other in sorted(near - {entity}))
    return [
        (plane, min((one.witnesses[name] for name in names if name in one.witnesses), default=0))
        for one in theirs
        if one is not None and one.cleared_us is None
        for plane, names in one.planes.items()
    ]


def sources(told: list[Accusation]) -> list[str]:
    """Return who testifies, sorted."""
    return sorted({one.source for one in told})


def planes(told: list[Accusation]) -> list[str]:
    """Return the networks over which a failure was seen, sorted."""
    return sorted({plane for one in told for plane in one.planes})


def is_silent(told: list[Accusation], limits: Limits) -> bool:
    """Claim that an entity is silent on as many planes as it takes, whichever one witness is wrong.

    A hard fact stands in for none (d5): what has no power is silent on all of them, and a BMC may
    lie beside a lost management network (X22, C03).
    """
    return bool(told) and all(_is_borne_out(told, name, limits) for name in sources(told))


def _is_borne_out(told: list[Accusation], name: str, limits: Limits) -> bool:
    """Claim that the others know of the planes, or of one when a witness told of what it alone saw.

    What dies falls silent everywhere at once; a plane that was lost long before is a lost network,
    and who then tells of another may be a liar (H5). So may who tells of it at once, where several
    others saw the first plane fall silent, and none of them the other.
    """
    others = _silent_us([one for one in told if one.source != name])
    own = _silent_us([one for one in told if one.source == name])
    within_us = round(limits.together * 1e6)
    beside = [
        plane
        for plane, at_us in own.items()
        if plane not in others and any(abs(at_us - one) <= within_us for one in others.values())
    ]
    if len({one.source for one in told if one.planes and one.source != name}) >= CONTRADICTING:
        beside = []
    return len(others) + len(beside) >= limits.planes_min


def _silent_us(told: list[Accusation]) -> dict[str, int]:
    """Return since when each plane is silent."""
    by_age = sorted(told, key=lambda one: -one.since_us)
    return {plane: one.since_us for one in by_age for plane in one.planes}


def shows_silence(step: PlannedStep, planes_min: int) -> bool:
    """Claim that planes or a hard fact show what a host has lost, whoever tells; it itself may."""
    found, symptoms = standing(step), step.plan.domain.rules.symptoms
    over = {plane for _, one in found for plane in one.planes}
    return len(over) >= planes_min or any(symptoms[key[0]].hard for key, _ in found)


def value(sighting: Sighting | None) -> str:
    """Return `raised`, `cleared` or `unknown`."""
    if sighting is None or sighting.is_unknown:
        return "unknown"
    return "raised" if sighting.cleared_us is None else "cleared"


def holds(domain: Domain, root: str, fact: Seen) -> bool:
    """Claim that a fact is known to be so; cleared where none of what was seen stands."""
    entities = walk(domain.state.topology, root, parse_path(fact.at))
    values = {value(domain.state.sightings.get((fact.see, entity))) for entity in entities}
    if fact.is_ == "seen":
        return bool(values - {"unknown"})
    return fact.is_ in values and not (fact.is_ == "cleared" and "raised" in values)


def dumping_until_us(domain: Domain, host: str) -> int | None:
    """Return when a dump that was told of counts as over, live time; None where none goes on.

    It tells of itself, so it is over when it has been quiet, or the power was seen to go.
    """
    return _told_until_us(domain, host, DUMPING, domain.rules.limits.dump_quiet)


def may_dump_until_us(domain: Domain, host: str) -> int | None:
    """Return the same, also where a kernel has only told of its end: its dump may yet begin."""
    begins_us = _told_until_us(domain, host, PANIC, domain.rules.limits.dump_begins)
    return dumping_until_us(domain, host) or begins_us


def _told_until_us(domain: Domain, host: str, symptom: str, quiet_s: float) -> int | None:
    state = domain.state
    told, power = (state.sightings.get((one, host)) for one in (symptom, POWER_OFF))
    if told is None or value(told) != "raised":
        return None
    if power is not None and value(power) == "raised" and power.first_us > told.last_us:
        return None
    due_us = told.last_us + round(quiet_s * 1e6)
    return due_us if state.live_us < due_us else None


def event_ids(step: PlannedStep) -> list[str]:
    """Return the ids of the events that decided, those about root and targets first."""
    domain, incident_id = step.plan.domain, step.plan.incident.incident_id
    held = domain.standing.held_by(incident_id)
    standing_now = [key for key in held if value(domain.state.sightings[key]) == "raised"]
    about = {step.plan.root, *step.targets}
    in_order = sorted(standing_now, key=lambda key: key[1] not in about)
    ids = (one for key in in_order for one in domain.state.sightings[key].event_ids[:1])
    return list(dict.fromkeys(ids))[:EVIDENCE_MAX]


def below(domain: Domain, entity: str) -> Iterator[str]:
    """Yield an entity and what it stands on, the nearest first."""
    topology = domain.state.topology
    waiting, met = deque([entity]), set[str]()
    while waiting and len(met) < ANCESTORS_MAX:
        node = waiting.popleft()
        if node not in met:
            met.add(node)
            yield node
            waiting += topology.dependencies(node)

"""What stands about a step, who saw it and over which networks, and what an entity stands on.

Look-ups for guards and planner; they decide nothing. A fact has three values: raised, cleared,
and unknown, which is neither (H23).
"""

from collections import deque
from collections.abc import Iterator

from correlator.domain import Domain
from correlator.plans import PlannedStep
from correlator.rules.paths import parse_path, walk
from correlator.state import Sighting, SymptomKey
from schemas.rules import Seen

ANCESTORS_MAX = 64
"""Entities an observer may stand on before it counts as outside."""
EVIDENCE_MAX = 10
"""Event ids an action carries."""
DUMPING = "os.kdump"
"""Symptom of a host whose kernel tells that it dumps."""
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


def outside(step: PlannedStep, since_us: int = 0) -> list[str]:
    """Return the sources that saw the root or a target, without those that stand on one of them.

    Only those that told of it since a live time. Sorted.
    """
    about = {step.plan.root, *step.targets}
    names = {
        name
        for _, one in standing(step, since_us)
        for name in one.witnesses
        if one.told_us.get(name, one.last_us) >= since_us
    }
    return [
        name
        for name in sorted(names)
        if about.isdisjoint(below(step.plan.domain, name.partition("/")[0]))
    ]


def planes(step: PlannedStep, since_us: int = 0) -> list[str]:
    """Return the networks over which the root or a target was seen to fail, sorted."""
    return sorted({plane for _, one in standing(step, since_us) for plane in one.planes})


def is_hard(step: PlannedStep, since_us: int = 0) -> bool:
    """Claim that a hard fact says what a step is about: no lost message can fake it."""
    symptoms = step.plan.domain.rules.symptoms
    return any(symptoms[key[0]].hard for key, _ in standing(step, since_us))


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
    """Return when a dump counts as over, live time; None where no dump goes on.

    It tells of itself, so it is over when it has been quiet, or the power was seen to go.
    """
    state = domain.state
    dump = state.sightings.get((DUMPING, host))
    if dump is None or value(dump) != "raised":
        return None
    power = state.sightings.get((POWER_OFF, host))
    if power is not None and value(power) == "raised" and power.first_us > dump.last_us:
        return None
    due_us = dump.last_us + round(domain.rules.limits.dump_quiet * 1e6)
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

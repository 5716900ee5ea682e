"""What can break, how often, and which faults of one recording can all be seen."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final, TypedDict

from bench.storm.site import CARDS, FEEDS, SIDES, Entity, Site, entity_of

EXPOSURE_S: Final = 6.0
"""A drawn fault is left at least this long to show itself before a larger one may bury it."""
AFTERMATH_S: Final = 30.0
"""A repaired fault may still hide others this long: boots, restarts."""
ATTEMPTS: Final = 400


class FaultKind(Enum):
    """What can break; the value is the `fault_type` of a label."""

    HOST_POWER = "host_power"
    RACK_POWER = "rack_power"
    KERNEL_PANIC = "kernel_panic"
    HOST_HANG = "host_hang"
    LINK_CUT = "link_cut"
    LAG_FLAP = "lag_flap"
    SWITCH_LOSS = "switch_loss"
    POOL_LOSS = "pool_loss"
    VSWITCH_CRASH = "vswitch_crash"
    HYPERVISOR_CRASH = "hypervisor_crash"
    VM_CRASH = "vm_crash"
    VM_HANG = "vm_hang"
    APP_CRASH = "app_crash"
    PATH_LOSS = "path_loss"


class FaultClass(TypedDict):
    """Where a fault strikes and how often."""

    root: str
    weight: float


FAULT_CLASSES: Final[dict[FaultKind, FaultClass]] = {
    FaultKind.HOST_POWER: {"root": "host", "weight": 4},
    FaultKind.RACK_POWER: {"root": "rack", "weight": 1},
    FaultKind.KERNEL_PANIC: {"root": "host", "weight": 4},
    FaultKind.HOST_HANG: {"root": "host", "weight": 4},
    FaultKind.LINK_CUT: {"root": "link", "weight": 10},
    FaultKind.LAG_FLAP: {"root": "link", "weight": 5},
    FaultKind.SWITCH_LOSS: {"root": "switch", "weight": 2},
    FaultKind.POOL_LOSS: {"root": "pool", "weight": 1},
    FaultKind.VSWITCH_CRASH: {"root": "vswitch", "weight": 4},
    FaultKind.HYPERVISOR_CRASH: {"root": "hypervisor", "weight": 4},
    FaultKind.VM_CRASH: {"root": "vm", "weight": 20},
    FaultKind.VM_HANG: {"root": "vm", "weight": 8},
    FaultKind.APP_CRASH: {"root": "app", "weight": 30},
    FaultKind.PATH_LOSS: {"root": "path", "weight": 5},
}
"""Root kind and relative frequency of each class: the shape of the matrix, not field data."""


@dataclass(frozen=True)
class Fault:
    """One physical fault.

    Attributes:
        kind: What breaks.
        root: The entity that breaks; its kind must be the one of FAULT_CLASSES.
        at: Onset, seconds since the start of the recording.
        until: Repair, same clock; beyond the end of the recording means never.
        bounces: How often the carrier drops between `at` and `until` (LAG_FLAP only).
    """

    kind: FaultKind
    root: Entity
    at: float
    until: float
    bounces: int = 1


def draw_faults(
    site: Site, count: int, seconds: float, seed: int, overlap: float = 0.25
) -> list[Fault]:
    """Draws faults that can all be seen, sorted by onset; every class once, then by weight.

    Args:
        site: Where they strike.
        count: How many.
        seconds: Length of the recording; onsets lie in its first 70 %.
        seed: Decides everything.
        overlap: Share of the faults that strike where another has already struck.

    Raises:
        ValueError: The site is too small for so many faults that do not hide each other.
    """
    rng = random.Random(seed)
    users = _users(site)
    drawn: list[tuple[Fault, set[Entity]]] = []
    for kind in _draw_kinds(rng, count):
        for _ in range(ATTEMPTS):
            near = [fault for fault, _ in drawn] if rng.random() < overlap else []
            fault = _draw_fault(site, rng, (kind, seconds), near)
            new = (fault, _hidden(users, fault.root))
            if all(_both_show(new, other) for other in drawn):
                drawn.append(new)
                break
        else:
            message = f"no room for fault {len(drawn) + 1} of {count}: {kind.value}"
            raise ValueError(message)
    return sorted((fault for fault, _ in drawn), key=lambda fault: (fault.at, fault.root))


def _draw_kinds(rng: random.Random, count: int) -> list[FaultKind]:
    """Every class once, then by weight, shuffled."""
    kinds = list(FAULT_CLASSES)
    rng.shuffle(kinds)
    weights = [FAULT_CLASSES[kind]["weight"] for kind in kinds]
    chosen = kinds[:count] + rng.choices(kinds, weights, k=max(0, count - len(kinds)))
    rng.shuffle(chosen)
    return chosen


def _draw_fault(
    site: Site,
    rng: random.Random,
    plan: tuple[FaultKind, float],
    near: Sequence[Fault],
) -> Fault:
    """One fault of the planned kind in a recording so long, if possible near another fault."""
    kind, seconds = plan
    onset = round(rng.uniform(0.03, 0.7) * seconds, 3)
    wanted = FAULT_CLASSES[kind]["root"]
    roots = [(node["kind"], node["id"]) for node in site.nodes if node["kind"] == wanted]
    if near:
        host = site.host_of.get(rng.choice(near).root, "")
        roots = [root for root in roots if site.host_of.get(root) == host] or roots
    root = rng.choice(roots)
    if kind is FaultKind.LAG_FLAP:
        bounces = rng.randint(4, 10)
        return Fault(kind, root, onset, round(onset + bounces * rng.uniform(2.0, 5.0), 3), bounces)
    lasting = rng.uniform(20.0, 90.0) if rng.random() < 0.6 else 2.0 * seconds  # noqa: PLR2004
    return Fault(kind, root, onset, round(onset + lasting, 3))


def _users(site: Site) -> dict[Entity, list[tuple[Entity, int]]]:
    """For each entity its direct dependants, with how many members must fail to fail them.

    Calls between apps are left out: a starved app still shows when it crashes itself.
    """
    redundant = {(node["kind"], node["id"]) for node in site.nodes if node.get("redundant")}
    members: dict[Entity, int] = {}
    for edge in site.edges:
        user = entity_of(edge["from"])
        members[user] = members.get(user, 0) + 1
    users: dict[Entity, list[tuple[Entity, int]]] = {}
    for edge in site.edges:
        user, target = entity_of(edge["from"]), entity_of(edge["to"])
        if edge["relation"] != "serves":
            needed = members[user] if user in redundant else 1
            users.setdefault(target, []).append((user, needed))
    return users


def _hidden(users: dict[Entity, list[tuple[Entity, int]]], root: Entity) -> set[Entity]:
    """What fails with the root, itself included; only ever asked for membership."""
    failed, found, queue = {root}, dict[Entity, int](), [root]
    while queue:
        for user, needed in users.get(queue.pop(), []):
            found[user] = found.get(user, 0) + 1
            if found[user] >= needed and user not in failed:
                failed.add(user)
                queue.append(user)
    return failed


def _both_show(one: tuple[Fault, set[Entity]], other: tuple[Fault, set[Entity]]) -> bool:
    """Whether neither of two faults, each with what fails with it, hides the other entirely."""
    first, second = (one, other) if one[0].at <= other[0].at else (other, one)
    lasts = second[0].at < first[0].until + AFTERMATH_S
    exposed = second[0].at - first[0].at >= EXPOSURE_S
    starts_hidden = lasts and second[0].root in first[1]
    return not starts_hidden and (exposed or first[0].root not in second[1])


def accepted(site: Site, fault: Fault) -> list[Entity]:
    """Other entities that name the same physical thing as the fault's root; may be empty."""
    kind, name = fault.root
    if kind == "rack":
        return [("group", f"{name}/power"), *[("power", f"{name}/{feed}") for feed in FEEDS]]
    if kind == "link":
        host, _, card = name.partition("/")
        rack = site.hosts[host].rack
        index, side = site.racks[rack].index(host) + 1, SIDES[CARDS.index(card)]
        return [("nic", name), ("switch_port", f"sw-{rack}-{side}/{index:02d}")]
    return []

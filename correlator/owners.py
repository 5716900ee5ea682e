"""What the owner of a workload is told: to whom it goes, until when, and about which cards.

Called by the planner when it sends a notice. The owner's answer is read by a guard.
"""

from typing import Any

from correlator.domain import Domain
from correlator.evidence import below
from correlator.plans import Plan
from schemas.base import from_microseconds, kind_of

CARDS = ("vf", "vnic")
"""Kinds of what connects a guest."""


def notice(domain: Domain, vm: str) -> dict[str, Any]:
    """Return who is told of a workload and until when its word is waited for; {} for nobody."""
    vnfm = domain.book.of(vm).vnfm
    if vnfm is None:
        return {}
    deadline_us = domain.state.log_us + round(vnfm.hold * 1e6)
    return {
        "notify": vnfm.notify,
        "ack_required": vnfm.ack,
        "ack_deadline": from_microseconds(deadline_us),
    }


def lost_cards(plan: Plan, vm: str) -> dict[str, str]:
    """Return the cards of a VM that stand on what has failed, or show it themselves (R25)."""
    if kind_of(vm) != "vm":
        return {}
    domain, topology = plan.domain, plan.domain.state.topology
    near = {*topology.dependencies(vm), *topology.down.get(vm, ())}
    cards = sorted(one for one in near if kind_of(one) in CARDS)
    lost = [one for one in cards if _is_lost(domain, plan.root, vm, one)]
    return {"vnics": " ".join(lost)} if lost else {}


def _is_lost(domain: Domain, root: str, vm: str, card: str) -> bool:
    if any(domain.stands(key) for key in domain.standing.on([card])):
        return True
    return root != vm and root in below(domain, card)

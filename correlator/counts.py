"""How many VMs a network function keeps, and which lost one is created anew (R04, R08).

A VM is lost when everything that may be tried has failed for good. It is created from its recorded
definition where its function is left with fewer than it wants, through placement, once, and only on
the proof that the old copy is dead. Called by the planner. Keeps: I1, I2, with the guards.
"""

from collections.abc import Sequence

from correlator.attempts import has_failed
from correlator.domain import Domain
from correlator.placement import IN_VAIN
from correlator.plans import Plan, PlannedStep
from correlator.targets import not_its_way
from schemas.base import kind_of
from schemas.outputs import WORKLOAD_VERBS
from schemas.rules import Step

CREATE = Step.model_validate({"needs": "fence.confirmed", "timeout": "300s", "tries": 1})
"""As an evacuation (failure matrix d5: 300 s); one try, since nobody knows what a second starts."""


def with_replacements(laid: Plan, steps: list[PlannedStep]) -> list[PlannedStep]:
    """Return the steps of a plan, and after those for workloads one that creates what is owed."""
    places = [n for n, one in enumerate(steps) if one.verb in WORKLOAD_VERBS]
    if not places or "desired" not in laid.domain.book.keys:
        return steps
    tried = [steps[n] for n in places]
    vms = sorted({vm for one in tried for vm in one.targets})
    owed = _owed(laid, [vm for vm in vms if _is_lost(tried, vm)])
    if not owed:
        return steps
    create = PlannedStep(laid, len(steps) + 1, "create_vm", CREATE, tuple(owed))
    return [*steps[: places[-1] + 1], create, *steps[places[-1] + 1 :]]


def made_from(domain: Domain, vm: str) -> dict[str, str]:
    """Return what a lost VM is created from, and for which network function."""
    vnf = _function_of(domain, vm)
    definition = domain.book.of(vnf).definition if vnf else None
    return {"vnf": vnf, "definition": definition} if definition else {}


def _is_lost(steps: Sequence[PlannedStep], vm: str) -> bool:
    """Claim that all that may be tried of a VM has failed for good, and something was."""
    own = [one for one in steps if vm in one.targets]
    failed = [one for one in own if has_failed(one, vm)]
    return bool(failed) and all(one in failed or not_its_way(one, vm) for one in own)


def _owed(laid: Plan, lost: list[str]) -> list[str]:
    """Return those of the lost VMs that are to be created, those under way included."""
    domain, owed = laid.domain, []
    created = _created(domain)
    for vm in sorted(lost, key=lambda one: (one not in created, one)):
        vnf = _function_of(domain, vm)
        members = [one for one in domain.state.topology.dependencies(vnf) if kind_of(one) == "vm"]
        gone = {one for one in members if one in lost or one in created}
        missing = (domain.book.of(vnf).desired or 0) - (len(members) - len(gone))
        replaced = {one for one in members if one in created or one in owed}
        if vm in created or (made_from(domain, vm) and len(replaced) < missing):
            owed.append(vm)
    return owed


def _created(domain: Domain) -> set[str]:
    """Return the lost VMs for which another was, or is being, created."""
    return {
        sent.target
        for incident in domain.state.incidents.values()
        for sent in incident.sent
        if sent.verb == "create_vm" and sent.state not in IN_VAIN
    }


def _function_of(domain: Domain, vm: str) -> str:
    """Return the network function of a VM that keeps a number of them, if there is one."""
    near = domain.state.topology.down.get(vm, ())
    return next((one for one in near if domain.book.of(one).desired is not None), "")

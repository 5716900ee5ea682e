"""Who carries out actions in the world, and answers: the contract of an actuator, kept to.

Epoch, expiry, generation, preconditions, the proof an action needs, and the store of what was
done are all checked here again, because the engine may be wrong, late or doubled. `skips` names
duties that a mutation check leaves undone.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from random import Random
from typing import Any, Literal

from schemas.base import to_microseconds
from schemas.inputs import Result, TopologyDelta
from schemas.outputs import DESTRUCTIVE_VERBS, Action
from tests.simulation.kernel import Kernel
from tests.simulation.log import Log
from tests.simulation.observers import boot_id
from tests.simulation.physics import Host, World
from tests.simulation.site import placement

Ending = Literal["CONFIRMED", "FAILED", "TIMED_OUT", "UNKNOWN", "REJECTED"]
COPYING = frozenset({"evacuate_vm", "rebuild_vm", "create_vm"})
NAME = "actuator:mgmt-1"


@dataclass(frozen=True, slots=True)
class Effect:
    """Something that an action did to the world."""

    action: Action
    what: str
    host: str
    """The host it was done to; of a VM, the one it was taken from."""
    healthy_since_us: int | None
    """Since when that host had been well when it was struck; None: it was not."""


@dataclass(frozen=True, slots=True)
class Proof:
    """A fence that was seen to hold, for one boot of one host."""

    host: str
    boots: int


@dataclass
class Actuator:
    """One actuator for every verb; its store survives its crashes."""

    world: World
    log: Log
    rng: Random
    skips: frozenset[str] = frozenset()
    alive: bool = True
    mood: str = ""
    """`late`, `twice`, `stuck` (acts, reports a time-out) or nothing."""
    store: dict[str, Result] = field(default_factory=dict)
    epoch: int = 0
    tokens: dict[str, int] = field(default_factory=dict)
    proofs: dict[str, Proof] = field(default_factory=dict)
    """Idempotency key of a fence → what it proved."""
    in_maintenance: set[str] = field(default_factory=set)
    running: dict[str, str] = field(default_factory=dict)
    """Target → idempotency key."""
    revoked: set[str] = field(default_factory=set)
    on_effect: Callable[[Effect], None] = lambda effect: None
    on_done: Callable[[Action, str], None] = lambda action, state: None
    lying_bmcs: set[str] = field(default_factory=set)
    """Hosts whose BMC will once say OFF while it is on."""
    refusals: dict[str, int] = field(default_factory=dict)
    _backlog: list[Action] = field(default_factory=list)

    @property
    def kernel(self) -> Kernel:
        """Return the clock."""
        return self.world.kernel

    # ---- receiving ---------------------------------------------------------------------

    def receive(self, action: Action) -> None:
        """Take one delivery of an action, which may be the second of the same."""
        if not self.alive:
            self._backlog.append(action)
            return
        stored = self.store.get(action.idempotency_key)
        if stored is not None and "dedupe" not in self.skips:
            self._answer(action, stored.state, stored.proof)
            return
        refusal = self._refusal(action)
        if refusal:
            self.refusals[refusal] = self.refusals.get(refusal, 0) + 1
            self._answer(action, "REJECTED", {"reason": refusal})
            return
        self.epoch = max(self.epoch, action.epoch)
        if action.verb in DESTRUCTIVE_VERBS or action.verb == "unfence":
            self.running[action.target] = action.idempotency_key
            self._answer(action, "ACCEPTED", {})
        self.store[action.idempotency_key] = self._result(action, "RUNNING", {})
        self.kernel.after(self.rng.uniform(0.02, 0.3), lambda: self._carry_out(action))

    def recover(self) -> None:
        """Come back after a crash: the store is there, and so is what has come since."""
        self.alive = True
        backlog, self._backlog = self._backlog, []
        for action in backlog:
            self.receive(action)

    def read_claim(self, epoch: int) -> None:
        """Learn from the log that another worker owns the domain."""
        self.epoch = max(self.epoch, epoch)

    def _refusal(self, action: Action) -> str:
        late = to_microseconds(datetime.fromisoformat(action.expires_at)) < self.kernel.now_us
        token = getattr(action, "fence_token", 0)
        refusals = {
            "stale_epoch": action.epoch < self.epoch and "epoch" not in self.skips,
            "expired": late and "expiry" not in self.skips,
            "revoked": action.idempotency_key in self.revoked,
            "mode": action.mode != "enforce",
            "stale_token": 0 < token < self.tokens.get(action.target, 0),
            "locked": self.running.get(action.target, action.idempotency_key)
            != action.idempotency_key,
            "precondition": not self._preconditions_hold(action),
        }
        self.tokens[action.target] = max(token, self.tokens.get(action.target, 0))
        return next((name for name, applies in refusals.items() if applies), "")

    def _preconditions_hold(self, action: Action) -> bool:
        if "preconditions" in self.skips or action.verb not in DESTRUCTIVE_VERBS:
            return True
        kind, _, name = action.target.partition(":")
        if kind == "host":
            return self._host_as_thought(action, self.world.hosts[name])
        return self._vm_as_thought(action, name) if kind == "vm" else True

    def _host_as_thought(self, action: Action, host: Host) -> bool:
        """Claim that a host has not booted since, nor is worked on."""
        thought = [
            check.equals
            for check in getattr(action, "preconditions", [])
            if check.fact == "boot_id" and check.target == action.target
        ]
        same = all(one == boot_id(host) for one in thought)
        return same and host.name not in self.in_maintenance

    def _vm_as_thought(self, action: Action, vm: str) -> bool:
        """Claim that a VM may be touched and, where it is copied, that its source is fenced."""
        if vm in self.world.site.opted_out or vm in self.world.stopped:
            return False
        if action.verb not in COPYING or "needs" in self.skips:
            return True
        return self.is_fenced(action, self.world.place[vm])

    def is_fenced(self, action: Action, host: str) -> bool:
        """Claim that what an action needs is proven of a host, and still holds."""
        proofs = [self.proofs.get(key) for key in action.needs]
        boots = self.world.hosts[host].boots
        return any(one is not None and (one.host, one.boots) == (host, boots) for one in proofs)

    # ---- acting ------------------------------------------------------------------------

    def _carry_out(self, action: Action) -> None:
        if action.idempotency_key in self.revoked or not self._preconditions_hold(action):
            self._end(action, "REJECTED", {"reason": "precondition"})
            return
        kind, _, name = action.target.partition(":")
        if action.verb == "fence":
            self._fence(action, self.world.hosts[name])
        elif action.verb in COPYING and kind == "vm":
            self._copy(action, name)
        elif action.verb == "restart_vm" and kind == "vm":
            self._restart(action, name)
        elif action.verb == "unfence":
            self._unfence(action, self.world.hosts[name])
        else:
            self._harmless(action)

    def _harmless(self, action: Action) -> None:
        if action.verb == "revoke":
            self.revoked.add(action.parameters.get("revokes", ""))
        self._effect(action, action.verb, "")
        self._end(action, "CONFIRMED", {})

    def _effect(self, action: Action, what: str, host: str) -> None:
        since = self.world.hosts[host].well_since_us if host else None
        self.on_effect(Effect(action, what, host, since))

    def _fence(self, action: Action, host: Host) -> None:
        method = getattr(action, "method", "") or action.parameters.get("method", "bmc_off")
        if method == "bmc_off":
            self._bmc_off(action, host)
        elif method == "pdu_off":
            self._effect(action, "pdu_off", host.name)
            host.outlet_on = False
            self._safe_to_return(host)
            self.kernel.after(self.rng.uniform(0.5, 2.0), lambda: self._prove(action, host))
        elif method == "storage_blocklist":
            self._effect(action, "storage_blocklist", host.name)
            host.blocked = True
            self._safe_to_return(host)
            self._prove(action, host)
        else:
            self._end(action, "FAILED", {"method": method, "reason": "not armed"})

    def _bmc_off(self, action: Action, host: Host) -> None:
        if not self.world.bmc_answers(host):
            silent: Ending = self.rng.choice(("FAILED", "TIMED_OUT"))
            self.kernel.after(
                self.rng.uniform(3.0, 10.0),
                lambda: self._end(action, silent, {"method": "bmc_off"}),
            )
            return
        # Ask, act if needed, ask again: one reading of OFF may be stale, two in a row are not.
        readings = [self._reads_off(host), self._reads_off(host)]
        if not all(readings):
            self._effect(action, "bmc_off", host.name)
        host.soft_on = False
        self._safe_to_return(host)
        self.kernel.after(self.rng.uniform(0.5, 3.0), lambda: self._prove(action, host))

    def _reads_off(self, host: Host) -> bool:
        if host.name in self.lying_bmcs:
            self.lying_bmcs.discard(host.name)
            return True
        return not self.world.powered(host)

    def _safe_to_return(self, host: Host) -> None:
        """Make harmless what could start old copies when the host is back."""
        self.world.autostart.discard(host.name)
        self.world.settle()

    def _prove(self, action: Action, host: Host) -> None:
        observed = "BLOCKED" if host.blocked and self.world.powered(host) else "OFF"
        if observed == "OFF" and self.world.powered(host):
            self._end(action, "FAILED", {"reason": "reads ON"})
            return
        method = getattr(action, "method", "") or "bmc_off"
        proof = {"method": method, "observed_state": observed}
        if self.mood == "stuck":
            self._end(action, "TIMED_OUT", {"method": method})
            return
        self.proofs[action.idempotency_key] = Proof(host.name, host.boots)
        self._end(action, "CONFIRMED", proof)

    def _copy(self, action: Action, vm: str) -> None:
        """Start a VM elsewhere; the cloud does what it is told, and tells where it runs."""
        source = self.world.place[vm]
        up = [h for h in self.world.hosts.values() if h.os == "up" and self.world.stores(h)]
        free = [h for h in up if h.name != source and h.name not in self.in_maintenance]
        if action.placement:  # It names the host, and no other will do.
            free = [h for h in free if f"host:{h.name}" == action.placement.destination]
        if not free:
            self._end(action, "FAILED", {"reason": "no destination"})
            return
        chosen = min(free, key=lambda h: (list(self.world.place.values()).count(h.name), h.name))
        self._effect(action, f"copy to {chosen.name}", source)
        self.world.place[vm] = chosen.name
        copy = self.world.new_copy(vm, chosen.name, "starting")

        def verify() -> None:
            ok = copy.state == "running"
            for edge in placement(vm, chosen.name) if ok else ():
                self._tell_placement(*edge)
            self._end(action, "CONFIRMED" if ok else "FAILED", {"host": chosen.name})

        self.kernel.after(6.0, verify)

    def _tell_placement(self, dependant: str, relation: str, dependency: str) -> None:
        delta = TopologyDelta.model_validate(
            {
                "op": "move_edge",
                "from": dependant,
                "to": dependency,
                "relation": relation,
                "source": "nova:api",
            }
        )
        self.kernel.after(self.rng.uniform(0.1, 1.0), lambda: self.log.append(delta))

    def _restart(self, action: Action, vm: str) -> None:
        host = self.world.hosts[self.world.place[vm]]
        self._effect(action, "restart", host.name)
        for copy in list(self.world.copies_of(vm)):
            copy.state = "dead"
        if host.os == "up":
            self.world.new_copy(vm, host.name, "starting")
        self._end(action, "CONFIRMED" if host.os == "up" else "FAILED", {})

    def _unfence(self, action: Action, host: Host) -> None:
        self._effect(action, "unfence", host.name)
        self.world.release(host)
        self.world.settle()
        self.kernel.after(
            30.0, lambda: self._end(action, "CONFIRMED" if host.os == "up" else "FAILED", {})
        )

    # ---- answering ---------------------------------------------------------------------

    def _end(self, action: Action, state: Ending, proof: dict[str, Any]) -> None:
        self.running.pop(action.target, None)
        self.store[action.idempotency_key] = self._result(action, state, proof)
        self.on_done(action, state)
        self._answer(action, state, proof)

    def _result(self, action: Action, state: Any, proof: dict[str, Any]) -> Result:  # noqa: ANN401
        return Result(
            action_id=action.action_id,
            idempotency_key=action.idempotency_key,
            epoch_seen=action.epoch,
            actuator=NAME,
            state=state,
            proof=proof,
        )

    def _answer(self, action: Action, state: Any, proof: dict[str, Any]) -> None:  # noqa: ANN401
        result = self._result(action, state, proof)
        wait_s = self.rng.uniform(5.0, 20.0) if self.mood == "late" else 0.0
        for _ in range(2 if self.mood == "twice" else 1):
            delay_s = wait_s + self.rng.uniform(0.01, 0.1)
            self.kernel.after(delay_s, lambda: self._send(result))

    def _send(self, result: Result) -> None:
        if self.alive:
            self.log.append(result)
        else:  # it is in the store: told when the actuator is back
            self.kernel.after(1.0, lambda: self._send(result))

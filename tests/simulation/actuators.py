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
from tests.simulation.physics import Copy, Host, World
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
    """`late`, `twice`, `stuck` (acts, reports a time-out), `unsure` (cannot tell) or nothing."""
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
    _unfinished: list[Callable[[], None]] = field(default_factory=list)
    """What it was at when it crashed."""
    _latest: dict[str, Action] = field(default_factory=dict)
    """Idempotency key → the action as it was last sent: a new owner sends it again."""

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
        if not self._is_stale(action):
            self._latest[action.idempotency_key] = action
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
        self._later(self.rng.uniform(0.02, 0.3), lambda: self._carry_out(action))

    def _later(self, wait_s: float, do: Callable[[], None]) -> None:
        """Go on after a while, or when it is back from a crash: it then looks anew."""

        def go_on() -> None:
            if self.alive:
                do()
            else:
                self._unfinished.append(do)

        self.kernel.after(wait_s, go_on)

    def recover(self) -> None:
        """Come back after a crash: the store is there, and so is what has come since."""
        self.alive = True
        unfinished, self._unfinished = self._unfinished, []
        for go_on in unfinished:
            go_on()
        backlog, self._backlog = self._backlog, []
        for action in backlog:
            self.receive(action)

    def read_claim(self, epoch: int) -> None:
        """Learn from the log that another worker owns the domain."""
        self.epoch = max(self.epoch, epoch)

    def _is_stale(self, action: Action) -> bool:
        return action.epoch < self.epoch and "epoch" not in self.skips

    def _is_late(self, action: Action) -> bool:
        due_us = to_microseconds(datetime.fromisoformat(action.expires_at))
        return due_us < self.kernel.now_us and "expiry" not in self.skips

    def _refusal(self, action: Action) -> str:
        token = getattr(action, "fence_token", 0)
        refusals = {
            "stale_epoch": self._is_stale(action),
            "expired": self._is_late(action),
            "revoked": action.idempotency_key in self.revoked,
            "mode": action.mode == "dry_run",
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
        if self._is_stale(self._latest.get(action.idempotency_key, action)):
            self._end(action, "REJECTED", {"reason": "stale_epoch"})
            return
        gone = action.idempotency_key in self.revoked or self._is_late(action)
        if gone or not self._preconditions_hold(action):
            self._end(action, "REJECTED", {"reason": "precondition", "precondition": "as thought"})
            return
        kind, _, name = action.target.partition(":")
        if kind == "vm" and action.verb in ON_VM:
            ON_VM[action.verb](self, action, name)
        elif kind == "host" and action.verb in ON_HOST:
            ON_HOST[action.verb](self, action, self.world.hosts[name])
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
            self._later(self.rng.uniform(0.5, 2.0), lambda: self._prove(action, host))
        elif method == "storage_blocklist":
            self._effect(action, "storage_blocklist", host.name)
            host.blocked = True
            self._safe_to_return(host)
            self._prove(action, host)
        else:
            self._end(action, "FAILED", {"method": method, "reason": "not armed"})

    def _destroy(self, action: Action, vm: str) -> None:
        """End one VM by libvirt, and look whether it is gone: the fence of that VM alone."""
        host = self.world.hosts[self.world.place[vm]]
        if not self.world.answers(host, "mgmt") or vm in self.world.migrating:
            self._end(action, "FAILED", {"method": "vm_destroy", "reason": "libvirt is silent"})
            return
        self._effect(action, "destroy", host.name)
        for copy in [one for one in self.world.copies_of(vm) if one.host == host.name]:
            copy.state = "dead"
        self.world.settle()
        self.proofs[action.idempotency_key] = Proof(host.name, host.boots)
        proof = {"method": "vm_destroy", "observed_state": "DESTROYED"}
        self._end(action, "CONFIRMED", proof)

    def _bmc_off(self, action: Action, host: Host) -> None:
        if not self.world.bmc_answers(host):
            silent: Ending = self.rng.choice(("FAILED", "TIMED_OUT"))
            self._later(
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
        self._later(self.rng.uniform(0.5, 3.0), lambda: self._prove(action, host))

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
        method = getattr(action, "method", "") or "bmc_off"
        observed = "BLOCKED" if method == "storage_blocklist" else "OFF"
        if observed == "OFF" and self.world.powered(host):
            self._end(action, "FAILED", {"reason": "reads ON"})
            return
        if observed == "BLOCKED" and not host.blocked:
            self._end(action, "FAILED", {"reason": "not blocked"})
            return
        proof = {"method": method, "observed_state": observed}
        if self.mood == "stuck":
            self._end(action, "TIMED_OUT", {"method": method})
            return
        if self.mood == "unsure":
            self._end(action, "UNKNOWN", {"method": method})
            return
        self.proofs[action.idempotency_key] = Proof(host.name, host.boots)
        self._end(action, "CONFIRMED", proof)

    def _destination(self, action: Action, vm: str) -> Host | None:
        """Return the emptiest host that could run a VM now, if there is one."""
        source = self.world.place[vm]
        up = [h for h in self.world.hosts.values() if h.os == "up" and self.world.stores(h)]
        free = [h for h in up if h.name != source and h.name not in self.in_maintenance]
        if action.placement:  # It names the host, and no other will do.
            free = [h for h in free if f"host:{h.name}" == action.placement.destination]
        taken = list(self.world.place.values())
        return min(free, key=lambda h: (taken.count(h.name), h.name), default=None)

    def _copy(self, action: Action, vm: str) -> None:
        """Start a VM elsewhere; the cloud does what it is told, and tells where it runs."""
        source, chosen = self.world.place[vm], self._destination(action, vm)
        if chosen is None or vm in self.world.migrating:
            self._end(action, "FAILED", {"reason": "no destination" if chosen is None else "busy"})
            return
        self._effect(action, f"copy to {chosen.name}", source)
        self.world.place[vm] = chosen.name
        copy = self.world.new_copy(vm, chosen.name, "starting")
        self.world.settle()
        self._later(6.0, lambda: self._verify(action, copy, source))

    def _verify(self, action: Action, copy: Copy, source: str) -> None:
        """Tell what has come of a copy; one that neither runs nor has ended is not known."""
        if copy.state in ("running", "stopped", "crashed"):
            self.tell_placement(copy.vm, copy.host)
            self._end(action, "CONFIRMED", {"host": copy.host})
        elif copy.state == "dead":
            if self.world.place[copy.vm] == copy.host:
                self.world.place[copy.vm] = source
            self._end(action, "FAILED", {"host": copy.host})
        else:
            self._end(action, "TIMED_OUT", {"host": copy.host})

    def _migrate(self, action: Action, vm: str) -> None:
        """Move a VM that runs; libvirt ends the source only when the destination has it."""
        chosen = self._destination(action, vm)
        if chosen is None:
            self._end(action, "FAILED", {"reason": "no destination"})
            return
        name = chosen.name
        self._effect(action, f"migrate to {name}", self.world.place[vm])

        def done(moved: bool) -> None:  # noqa: FBT001 - what a callback is called with
            if moved:
                self.tell_placement(vm, name)
            self._end(action, "CONFIRMED" if moved else "FAILED", {"host": name})

        self.world.migrate(vm, name, lambda moved: self._later(0.0, lambda: done(moved)))
        self.world.settle()

    def tell_placement(self, vm: str, host: str) -> None:
        """Let the cloud tell the log where a VM runs now."""
        for edge in placement(vm, host):
            self._tell_edge(*edge)

    def _tell_edge(self, dependant: str, relation: str, dependency: str) -> None:
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
        self.world.settle()
        self._end(action, "CONFIRMED" if host.os == "up" else "FAILED", {})

    def _unfence(self, action: Action, host: Host) -> None:
        self._effect(action, "unfence", host.name)
        self.world.release(host)
        self.world.settle()
        self._later(
            30.0, lambda: self._end(action, "CONFIRMED" if host.os == "up" else "FAILED", {})
        )

    # ---- answering ---------------------------------------------------------------------

    def _end(self, action: Action, state: Ending, proof: dict[str, Any]) -> None:
        if self.running.get(action.target) == action.idempotency_key:
            del self.running[action.target]
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


ON_VM: dict[str, Callable[[Actuator, Action, str], None]] = {
    **dict.fromkeys(COPYING, Actuator._copy),  # noqa: SLF001 - of the class above
    "fence": Actuator._destroy,  # noqa: SLF001
    "restart_vm": Actuator._restart,  # noqa: SLF001
    "live_migrate": Actuator._migrate,  # noqa: SLF001
}
ON_HOST: dict[str, Callable[[Actuator, Action, Host], None]] = {
    "fence": Actuator._fence,  # noqa: SLF001
    "unfence": Actuator._unfence,  # noqa: SLF001
}
"""Verb → how it is carried out; all others are harmless."""

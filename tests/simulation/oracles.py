"""What must never be: the invariants of the action contract, asked after every step.

The oracles know the log, what the engine said, what the actuators did and the world as it is;
they know no rule. I2 is the world's own word. I10 is left to the corpus, which knows when a fault
could first be seen.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from correlator.engine import Engine, Stamped
from schemas.inputs import Command, Event, Result
from schemas.outputs import DESTRUCTIVE_VERBS, Action, Decision, Incident, Output
from tests.simulation.actuators import COPYING, Effect
from tests.simulation.kernel import SECOND_US, START_US
from tests.simulation.log import Log
from tests.simulation.physics import Copy, World

GAP_US = 1_500_000
GAP_DOUBT_US = 2_000_000
WELL_US = 10 * SECOND_US
"""A host that has been well so long when its fence leaves was fenced for nothing."""
EPOCH_KNOWN_US = SECOND_US // 2
"""By then every actuator has read who owns the domain."""
INCIDENT_US = 150 * SECOND_US
"""An incident that has waited for so long is stuck: a person must know (d5: 120 s)."""
VAIN_US = 200 * SECOND_US
"""So long after what was tried in vain it is stuck: as before, and a minute in which it ends."""
COMES_BACK_S = (60.0, 100.0, 140.0)
"""A VM that serves at one of these times after an attempt needs nobody: its pool may be away."""
SURE = 0.999
"""No policy of the pack asks for more confidence."""
FINAL_WORDS = frozenset(
    {"opted_out", "stopped_by_user", "maintenance", "rejected", "guard_only_if", "dry_run_result"}
)
"""Refusals that end the matter."""
SHARE_MAX, SHARE_WINDOW_US = 0.3, 600 * SECOND_US
FENCES_AT_ONCE_MAX = 1
FENCES_PER_HOST_MAX = 2
COPIES_AT_ONCE_MAX = 20
SOURCES_MIN = PLANES_MIN = 2
ON_VM = frozenset({*COPYING, "restart_vm", "live_migrate"})
WAYS = {
    "collector.lost": "mgmt",
    "nova.svc.down": "mgmt",
    "vs.bfd.down": "tenant",
    "vm.hb.lost": "tenant",
    "app.health.bad": "tenant",
    "app.hb.lost": "guest",
    "bmc.lost": "oob",
    "lease.stale": "storage",
    "path.down": "storage",
    "vm.event.stopped_failed": "guest",
    "tor.port.down": "wire",
    "nic.carrier.down": "wire",
    "vs.bond.member_down": "wire",
    "hw.power.off": "hard",
    "os.panic": "hard",
    "os.kdump": "hard",
    "os.lockup": "hard",
    "path.all_down": "hard",
}
"""signal → the way by which it is known, where the event names no plane."""


@dataclass(frozen=True, slots=True)
class Violation:
    """An invariant that was broken."""

    invariant: str
    at_s: float
    text: str
    about: str
    """Host or VM, to find what led to it."""


@dataclass
class Oracles:
    """Everything they remember of a run."""

    world: World
    log: Log
    violations: list[Violation] = field(default_factory=list)
    facts: dict[tuple[str, str, str], str] = field(default_factory=dict)
    """(entity, signal, source) raised in the log and not cleared → way by which it is known."""
    hold: bool = False
    approved: set[str] = field(default_factory=set)
    """Incidents of which a person has said that their plan may go on."""
    retried: Counter[str] = field(default_factory=Counter)
    """Incident → how often a person has asked for the whole ladder again."""
    opened_us: dict[str, int] = field(default_factory=dict)
    roots: dict[str, str] = field(default_factory=dict)
    """Incident → entity that it names."""
    acted: set[str] = field(default_factory=set)
    """Incidents for which something was done."""
    waiting: dict[str, str] = field(default_factory=dict)
    """Incident → what its plan waits for."""
    waits_us: dict[str, int] = field(default_factory=dict)
    """Incident → since when its plan has waited, whatever for, without doing anything grave."""
    tried: dict[str, tuple[str, str, str]] = field(default_factory=dict)
    """Key of a destructive action that was not taken back → (its incident, verb, target)."""
    done: set[tuple[str, str, str]] = field(default_factory=set)
    """What has succeeded since it was last tried: another method of it may still fail, late."""
    vain: dict[tuple[str, str], tuple[int, str]] = field(default_factory=dict)
    """(incident, target) → since when, and what: this was tried last, and had no success."""
    sessions: dict[str, int] = field(default_factory=dict)
    """Entity → end of its maintenance, log time."""
    doubt_until_us: int = 0
    confirmed: set[str] = field(default_factory=set)
    """Keys of actions that the log says were CONFIRMED."""
    ended: set[str] = field(default_factory=set)
    emitted_us: dict[str, int] = field(default_factory=dict)
    copied_from: dict[str, str] = field(default_factory=dict)
    """Key of a copying action → host it was to copy from."""
    fenced_boots: dict[str, int] = field(default_factory=dict)
    """Host → its boots when a fence of it was last proven."""
    destroyed: set[str] = field(default_factory=set)
    """VMs that libvirt has ended, and seen to have ended."""
    fences_us: list[tuple[int, str, str]] = field(default_factory=list)
    effects: Counter[str] = field(default_factory=Counter)
    at_work: dict[str, str] = field(default_factory=dict)
    """Key of an action that is being carried out → its verb."""
    paged: set[str] = field(default_factory=set)
    paged_us: dict[str, int] = field(default_factory=dict)
    """Entity → when a person was last called about it."""
    actions: Counter[str] = field(default_factory=Counter)
    _last_us: int = 0

    def _broken(self, invariant: str, text: str, about: str) -> None:
        at_s = (self.world.kernel.now_us - START_US) / SECOND_US
        self.violations.append(Violation(invariant, round(at_s, 3), text, about))

    # ---- what the log says -------------------------------------------------------------

    def on_record(self, record: Stamped) -> None:
        """Remember what stands in the log."""
        if self._last_us and record.log_us - self._last_us > GAP_US:
            self.doubt_until_us = record.log_us + GAP_DOUBT_US
        self._last_us = record.log_us
        given = record.input
        if isinstance(given, Event):
            self._on_event(given, spooled=record.spooled)
        elif isinstance(given, Command):
            self._on_command(given)
        elif isinstance(given, Result):
            self._on_result(given)

    def _on_event(self, event: Event, *, spooled: bool) -> None:
        key = (event.entity, event.signal, event.source or "")
        if event.state == "cleared":
            self.facts.pop(key, None)
        elif not spooled:
            self.facts[key] = str(event.attrs.get("plane") or WAYS.get(event.signal, ""))

    def _on_command(self, command: Command) -> None:
        if command.command == "approve":
            self.approved.add(command.target)
        elif command.command == "retry":
            self.retried[command.target] += 1
        elif command.command in ("hold", "release"):
            self.hold = command.command == "hold"
        elif command.command == "maintenance_start" and command.until is not None:
            self.sessions[command.target] = round(command.until.timestamp() * SECOND_US)
        elif command.command == "maintenance_end":
            self.sessions.pop(command.target, None)

    def _on_result(self, result: Result) -> None:
        if result.state == "CONFIRMED":
            self.confirmed.add(result.idempotency_key)
        if result.state not in ("ACCEPTED", "RUNNING"):
            if result.idempotency_key not in self.ended:  # else told twice
                self._on_end(result)
            self.ended.add(result.idempotency_key)

    def _on_end(self, result: Result) -> None:
        """Remember what was tried in vain, until something brings its target back."""
        name, verb, target = self.tried.get(result.idempotency_key, ("", "", ""))
        if result.state == "CONFIRMED":
            self.done.add((name, verb, target))
            self.vain = {one: what for one, what in self.vain.items() if one[1] != target}
        elif name and (name, verb, target) not in self.done:
            words = f"{verb} {target}: {result.state}"
            self.vain[name, target] = self.world.kernel.now_us, words
            for after_s in COMES_BACK_S:
                self.world.kernel.after(after_s, lambda: self._forget_what_serves(name, target))

    def _forget_what_serves(self, name: str, target: str) -> None:
        """Let go of a VM that came back by what was done before, or by itself."""
        kind, _, vm = target.partition(":")
        if kind == "vm" and self.world.serves(vm):
            self.vain.pop((name, target), None)

    # ---- what the engine says ----------------------------------------------------------

    def on_said(self, output: Output) -> None:
        """Follow each incident from its opening to its end."""
        if isinstance(output, Incident):
            self._on_incident(output)
        elif isinstance(output, Decision) and output.incident_id:
            self._on_decision(output.incident_id, output)
        elif isinstance(output, Action):
            self.on_action(output)

    def _on_decision(self, name: str, said: Decision) -> None:
        """Remember what a plan waits for: not doubt after the deed, nor what a host returns by."""
        if said.reason in FINAL_WORDS:
            self.vain = {
                one: what for one, what in self.vain.items() if f" {one[1]}:" not in said.text
            }
        if said.verdict == "act":
            self.acted.add(name)
            self.waiting.pop(name, None)
        elif said.reason in FINAL_WORDS and (
            f" {said.entity}:" in said.text or said.text.startswith("fence ")
        ):  # It is of the root, or of the host whose fence all else needs: nothing is waited for.
            self.waiting.pop(name, None)
        elif said.verdict in ("wait", "refuse") and not self._ends_a_matter(name, said):
            self.waiting[name] = said.reason
            self.waits_us.setdefault(name, self.world.kernel.now_us)

    def _ends_a_matter(self, name: str, said: Decision) -> bool:
        doubts_deed = said.reason == "confidence_below_policy" and name in self.acted
        return said.reason in FINAL_WORDS or doubts_deed or "unfence" in said.text

    def _on_incident(self, incident: Incident) -> None:
        name, now_us = incident.incident_id, self.world.kernel.now_us
        if incident.state == "cleared":
            entity = incident.causes[0].entity
            self.world.kernel.after(1.0, lambda: self._came_to_an_end(name, entity))
            return
        self.opened_us.setdefault(name, now_us)
        root = incident.causes[0].entity
        if self.roots.setdefault(name, root) != root:  # Another plan, which has said nothing yet.
            self.roots[name] = root
            self.waiting.pop(name, None)
            self.waits_us.pop(name, None)
        certain = incident.confidence >= SURE
        if certain and self.waiting.get(name) == "confidence_below_policy":
            del self.waiting[name]  # What else there is to wait for is said after this.

    def _came_to_an_end(self, name: str, entity: str) -> None:
        """An incident that waited too long must have called a person (I8)."""
        now_us = self.world.kernel.now_us
        since_us = max(self.opened_us.pop(name, now_us), self.waits_us.get(name, now_us))
        age_us = now_us - since_us
        is_known = name in self.paged or self.paged_us.get(entity, -1) >= since_us
        if age_us > INCIDENT_US and name in self.waiting and not is_known:
            text = f"incident of {entity} waited ({self.waiting[name]}) for {age_us // SECOND_US} s"
            self._broken("I8", f"{text}, nobody was paged", entity.partition(":")[2])
        ended = [
            (target, *self.vain.pop((of, target))) for of, target in [*self.vain] if of == name
        ]
        vain = [(at_us, what) for target, at_us, what in ended if not self._is_well(target, at_us)]
        since_us, what = min(vain, default=(now_us, ""))
        if now_us - since_us > VAIN_US and name not in self.paged:
            text = f"incident of {entity} stood for {(now_us - since_us) // SECOND_US} s"
            self._broken("I8", f"{text} after {what}, nobody was paged", entity.partition(":")[2])

    def _is_well(self, target: str, vain_us: int) -> bool:
        """Claim that a host came back before a person would have been called for it."""
        host = self.world.hosts.get(target.partition(":")[2])
        well_us = None if host is None else host.well_since_us
        return well_us is not None and well_us - vain_us < INCIDENT_US

    def on_action(self, action: Action) -> None:
        """Judge an action as it leaves, by what the log had said until then."""
        self.actions[action.verb] += 1
        self.emitted_us.setdefault(action.idempotency_key, self.world.kernel.now_us)
        name = action.target.partition(":")[2]
        if action.verb == "page":
            self.paged.add(action.incident_id)
            self.paged_us[action.target] = self.world.kernel.now_us
        if action.verb in COPYING and name in self.world.place:
            self.copied_from[action.idempotency_key] = self.world.place[name]
            self._copy_has_proof(action)
        if action.verb == "revoke":
            self.tried.pop(action.parameters["revokes"], None)
        if action.verb == "unfence":
            self._all_copied(name)
        if action.verb == "fence" and name in self.world.hosts:
            self._witnessed(action, name)
        if action.verb in DESTRUCTIVE_VERBS:
            self._allowed_now(action, name)
            tried = action.incident_id, action.verb, action.target
            self.tried[action.idempotency_key] = tried
            self.done.discard(tried)
            self.waiting.pop(action.incident_id, None)  # Its decision may have died unsaid.
            self.waits_us.pop(action.incident_id, None)
            self.vain.pop((action.incident_id, action.target), None)

    def _copy_has_proof(self, action: Action) -> None:
        if not action.needs or not self.confirmed.issuperset(action.needs):
            text = f"{action.verb} {action.target} left without a CONFIRMED fence"
            self._broken("I1", text, action.target)

    def _all_copied(self, host: str) -> None:
        open_ = [k for k, h in self.copied_from.items() if h == host and k not in self.ended]
        if open_:
            self._broken("I12", f"unfence of {host} with {len(open_)} copies under way", host)

    def _witnessed(self, action: Action, host: str) -> None:
        found = [(s.partition("/")[0], way) for s, way in self._facts_of(host)]
        sources, ways = {source for source, _ in found}, {way for _, way in found if way}
        if len(sources) < SOURCES_MIN or len(ways) < PLANES_MIN:
            text = f"{action.verb} {action.target} on {sorted(sources)} by way of {sorted(ways)}"
            self._broken("I3", text, host)

    def _facts_of(self, host: str) -> Iterator[tuple[str, str]]:
        for (entity, _, source), way in self.facts.items():
            if self._host_of(entity) == host:
                yield source, way

    def _host_of(self, entity: str) -> str:
        kind, _, rest = entity.partition(":")
        if kind == "app":
            rest = rest.replace("a", "v")
        if kind in ("vm", "app"):
            return self.world.place.get(rest, "")
        return rest.partition("/")[2 if kind == "switch_port" else 0]

    def _allowed_now(self, action: Action, name: str) -> None:
        now_us = self.world.kernel.now_us
        host = f"host:{self.world.place.get(name, name)}"
        drains = action.verb == "live_migrate"  # What a session asks for itself.
        asks = action.mode == "approve" and action.incident_id not in self.approved
        reasons = {
            "nobody has approved it": asks,
            "it is no more than a trial": action.mode == "dry_run",
            "the domain is held": self.hold,
            "the log has just had a gap": now_us < self.doubt_until_us,
            "it is under maintenance": self.sessions.get(host, 0) > now_us and not drains,
        }
        for text in [text for text, applies in reasons.items() if applies]:
            self._broken("I4", f"{action.verb} {action.target} although {text}", name)

    # ---- what was done -----------------------------------------------------------------

    def on_effect(self, effect: Effect) -> None:
        """Judge what an action does to the world."""
        action, name = effect.action, effect.action.target.partition(":")[2]
        self.effects[action.idempotency_key] += 1
        if self.effects[action.idempotency_key] > 1:
            self._broken("I6", f"{action.verb} {action.target} took effect twice", name)
        self._owned(action, name)
        if action.verb == "fence" and name in self.world.hosts:
            self._fence_was_due(effect)
        if action.verb in ON_VM:
            self._vm_may_be_touched(action, name)
        if action.verb in COPYING:
            self._source_is_dead(effect, name)
        self.at_work[action.idempotency_key] = action.verb
        self._budgets(action, name)

    def _owned(self, action: Action, name: str) -> None:
        known = self.world.kernel.now_us - self.log.latest_claim_us > EPOCH_KNOWN_US
        if known and action.epoch < self.log.epoch:
            text = f"{action.verb} {action.target} took effect under epoch {action.epoch}"
            self._broken("I7", f"{text}, the owner has {self.log.epoch}", name)

    def _fence_was_due(self, effect: Effect) -> None:
        since = effect.healthy_since_us
        left_us = self.emitted_us.get(effect.action.idempotency_key, self.world.kernel.now_us)
        if since is not None and since <= left_us - WELL_US:
            text = (
                f"{effect.host} was fenced ({effect.what}), well for {(left_us - since) // 10**6} s"
            )
            self._broken("healthy", text, effect.host)

    def _vm_may_be_touched(self, action: Action, vm: str) -> None:
        for text, vms in (
            ("opted out", self.world.site.opted_out),
            ("stopped by its user", self.world.stopped),
        ):
            if vm in vms:
                self._broken("I9", f"{action.verb} of {vm}, which is {text}", vm)

    def _source_is_dead(self, effect: Effect, vm: str) -> None:
        boots = self.world.hosts[effect.host].boots
        destroyed = vm in self.destroyed and not any(self.world.copies_of(vm))
        if self.fenced_boots.get(effect.host) != boots and not destroyed:
            text = f"{vm} was copied while {effect.host} was not fenced since its last boot"
            self._broken("I1", text, vm)

    def _budgets(self, action: Action, name: str) -> None:
        now_us, verbs = self.world.kernel.now_us, Counter(self.at_work.values())
        if verbs["fence"] > FENCES_AT_ONCE_MAX:
            self._broken("I5", f"{verbs['fence']} fences at once", name)
        if sum(verbs[verb] for verb in COPYING) > COPIES_AT_ONCE_MAX:
            self._broken("I5", "too many copies at once", name)
        if action.verb != "fence" or name not in self.world.hosts:
            return
        self.fences_us.append((now_us, name, getattr(action, "method", "")))
        recent = {host for at, host, _ in self.fences_us if at > now_us - SHARE_WINDOW_US}
        if len(recent) > SHARE_MAX * len(self.world.hosts):
            self._broken("I5", f"{sorted(recent)} were fenced within 10 min", name)
        alike = Counter(self.fences_us_by(name))
        most = FENCES_PER_HOST_MAX + self.retried[action.incident_id]
        if alike and max(alike.values()) > most:
            self._broken("I5", f"{name} was fenced {max(alike.values())} times", name)

    def fences_us_by(self, host: str) -> list[str]:
        """Return the method of each fence of a host."""
        return [method for _, name, method in self.fences_us if name == host]

    def on_done(self, action: Action, state: str) -> None:
        """Remember that an action is over, and what a fence has proven."""
        self.at_work.pop(action.idempotency_key, None)
        if action.verb == "fence" and state == "CONFIRMED":
            kind, _, name = action.target.partition(":")
            if kind == "vm":
                self.destroyed.add(name)
            else:
                self.fenced_boots[name] = self.world.hosts[name].boots

    def on_double_write(self, vm: str, copy: Copy, writer: int) -> None:
        """Take the world's word that a disk has two writers."""
        text = f"copy {copy.number} of {vm} on {copy.host} writes, copy {writer} had taken over"
        if not any(one.invariant == "I2" and one.about == vm for one in self.violations):
            self._broken("I2", text, vm)

    def on_drift(self, text: str) -> None:
        """Take the word of a successor that it is not what its predecessor was."""
        self._broken("I11", text, "")

    # ---- in the end --------------------------------------------------------------------

    def at_end(self, engine: Engine) -> None:
        """Ask whether everything that began has come to an end, or to a person."""
        for name, incident in sorted(engine.state.incidents.items(), key=lambda one: one[0]):
            self._came_to_an_end(name, incident.fault[1])

"""The engine: one input in, outputs out. No I/O, no clock, no chance; never raises on an input.

`Engine.step` folds an input of the log into the state: time → liveness → symptoms → causes →
incidents → plans. Called by every shell (replay today), always with what the log said and when.
Keeps: I4 (nothing destructive in a gap, a hold or maintenance), I11 (same log, same decisions).
"""

import heapq
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

from correlator import inference, planner, report
from correlator.codebook import Codebook, Fault
from correlator.inference import Explanation, Look, Verdict
from correlator.rules.paths import walk
from correlator.rules.ruleset import RuleSet, SymptomSpec
from correlator.state import KEPT_MAX, EngineState, IncidentState, Session, Sighting, SymptomKey
from correlator.symptoms import Matchers, enough, means
from schemas.base import digest, kind_of, to_microseconds
from schemas.inputs import (
    Command,
    Event,
    Fact,
    Input,
    Level,
    OwnerClaim,
    Pulse,
    Result,
    Tick,
    TopologyDelta,
    Verdict as RegionVerdict,
)
from schemas.outputs import Decision, Output

GAP_US = 1_500_000
"""More than this between two stamps of a live log is a stream gap."""
GAP_DOUBT_US = 2_000_000
"""So long after a gap no absence fires and nothing destructive leaves."""
GAPS_PER_MINUTE_MAX = 3
CERTAIN_SPURIOUS = 1e-5
"""A symptom this unlikely to be seen by chance is looked at in the same step."""
COLLECTOR_SILENT_US = 3_000_000
"""A collector beats once a second; three missed beats are a symptom of the collector."""
LEVEL_FACTS_MAX = 10_000
"""Facts one source may list; the rest is counted and left."""


@dataclass(frozen=True, slots=True)
class Stamped:
    """An input with its place and stamp in the log."""

    offset: int
    index: int
    log_us: int
    input: Input
    spooled: bool = False


class Engine:
    """Folds one domain's log. `state` is all it knows; the rest is worked out from it."""

    def __init__(
        self, state: EngineState, rules: RuleSet, library: dict[str, RuleSet] | None = None
    ) -> None:
        self.state = state
        self.library = {**(library or {}), rules.hash: rules}
        self._activate(self.library.get(state.rules_hash, rules))

    def _activate(self, rules: RuleSet) -> None:
        self.rules = rules
        self.state.rules_hash = rules.hash
        self.matchers = Matchers(rules)
        self.codebook = Codebook(self.state.topology, rules)
        self.support: dict[Fault, dict[SymptomKey, int]] = {}
        self.evidence: dict[str, set[SymptomKey]] = {}
        self._knob_us = {
            name: round(getattr(rules.knobs, name) * 1e6)
            for name in ("gather", "wait", "wait_max", "settle", "stale", "lateness")
        }
        for key in sorted(k for k in self.state.sightings if k[0] not in rules.symptoms):
            del self.state.sightings[key]
        for key in sorted(self.state.sightings):
            self._index(key)

    # ---- one step ------------------------------------------------------------------------

    def step(self, record: Stamped) -> list[Output]:
        """Fold one input; return what is to be said, in order. A repeated offset is dropped."""
        state = self.state
        if (record.offset, record.index) <= (state.offset, state.index):
            state.count("repeated_offsets")
            return []
        state.offset, state.index = record.offset, record.index
        self.out: list[Output] = []
        self._advance(record.log_us)
        given = record.input
        if isinstance(given, Event):
            self._event(given, spooled=record.spooled)
        elif isinstance(given, Tick):
            self._tick()
        else:
            self._rare(given)
        return self.out

    def next_deadline_us(self) -> int | None:
        """Return when the engine next has something to do, live time; None if nothing waits."""
        return self.state.deadlines[0][0] if self.state.deadlines else None

    def _advance(self, log_us: int) -> None:
        state = self.state
        elapsed_us = max(0, log_us - state.log_us) if state.log_us else 0
        if log_us < state.log_us:
            state.count("time_went_back")
        if state.ticks == "synthesised":
            state.live_us = max(state.live_us, log_us)
        else:
            state.live_us += min(elapsed_us, GAP_US)
            if elapsed_us > GAP_US:
                self._gap(elapsed_us)
        state.log_us = max(state.log_us, log_us)

    def _gap(self, elapsed_us: int) -> None:
        state = self.state
        state.count("stream_gaps")
        state.gap_until_us = max(state.gap_until_us, state.live_us + GAP_DOUBT_US)
        state.gaps_us = [t for t in state.gaps_us if t > state.live_us - 60_000_000][-10:]
        state.gaps_us.append(state.live_us)
        text = f"the log was silent for {elapsed_us / 1e6:.1f} s: no absence counts for 2 s"
        self._note(f"domain:{state.domain}", "stream_gap", text)
        if len(state.gaps_us) > GAPS_PER_MINUTE_MAX:
            self._note(f"domain:{state.domain}", "stream_gaps_many", "over three gaps in a minute")

    def _tick(self) -> None:
        state = self.state
        while state.deadlines and state.deadlines[0][0] <= state.live_us:
            due = heapq.heappop(state.deadlines)
            while state.deadlines and state.deadlines[0] == due:
                heapq.heappop(state.deadlines)
            _, what, first, second = due
            self._wake(what, first, second)
        if state.dirty:
            self._look()

    def _wake(self, what: str, first: str, second: str) -> None:
        if what == "relook":
            index = next((i for i, s in enumerate(self.rules.signatures) if s.name == first), None)
            if index is not None:
                self.state.dirty.update(self.support.get((index, second), ()))
        elif what == "expire":
            self._expire((first, second))
        elif what == "close":
            self._close_if_quiet(first)
        elif what == "absent":
            self._absent((first, second))
        elif what == "quiet":
            self._quiet((first, second))
        elif what == "session":
            self._session_overdue(first)
        elif what == "plan":
            self._plan(first)

    def _note(self, entity: str, reason: str, text: str, verdict: str = "note") -> None:
        self.out.append(
            Decision(
                entity=entity,
                verdict=verdict,  # type: ignore[arg-type]
                reason=reason,
                text=text,
                decided_at=report.moment(self.state.log_us),
            )
        )

    # ---- events, levels, pulses → symptoms -------------------------------------------------

    def _event(self, event: Event, *, spooled: bool) -> None:
        state = self.state
        specs = self.matchers.of(event.signal)
        absent = self.matchers.absent.get(event.signal)
        heals = bool(event.attrs) and event.state == "raised"
        if not specs and not absent and not heals:
            state.count("unmatched")
            return
        if event.event_id is not None and state.is_duplicate(event.event_id):
            state.count("duplicates")
            return
        if heals:
            self._heal(event)
        for spec in absent or ():
            self._beat(spec, event)
        for spec in specs:
            meaning = means(spec, event)
            if meaning:
                self._sighted(spec, event, spooled=spooled)
            elif meaning is False:
                self._clear((spec.name, event.entity), event)

    def _heal(self, event: Event) -> None:
        for dependant, relation, parent in self.state.topology.healing_parent(
            event.entity, event.attrs
        ):
            text = f"{event.signal} names {parent}: {relation} moved (event {event.event_id})"
            self._move(dependant, relation, parent, "topology_healed", text)

    def _move(self, dependant: str, relation: str, parent: str, reason: str, text: str) -> None:
        topology = self.state.topology
        known = dependant in topology
        changed = topology.move_edge(dependant, relation, parent)
        if not changed:
            return
        self._topology_changed({node for edge in changed for node in (edge[0], edge[2])})
        if known and len(changed) > 1:
            self._note(dependant, reason, text)
        if kind_of(dependant) == "vm" and relation == "hosted_by":
            self._next_generation(dependant)

    def _next_generation(self, entity: str) -> None:
        self.state.generations[entity] = self.state.generations.get(entity, 0) + 1

    def _sighted(self, spec: SymptomSpec, event: Event, *, spooled: bool) -> None:
        now_us = self.state.live_us
        key = (spec.name, event.entity)
        if spec.changes > 1:
            window = self.state.windows.setdefault(key, deque())
            if spec.quiet_us is not None:
                self.state.wake(now_us + spec.quiet_us, "quiet", *key)
            if not enough(spec, window, now_us):
                return
        self._raise(key, event, spooled=spooled)

    def _raise(self, key: SymptomKey, event: Event, *, spooled: bool = False) -> None:
        state = self.state
        now_us = state.live_us
        spec = self.rules.symptoms[key[0]]
        if spec.unless_symptom and self._excused(spec, key[1]):
            state.count("excused")
            return
        sighting = state.sightings.get(key)
        source = event.source or event.entity
        if sighting is None:
            sighting = Sighting(now_us, now_us, source, spooled=spooled)
            state.sightings[key] = sighting
            self._know(key[1])
            self._index(key)
            state.wake(now_us + self._knob_us["stale"], "expire", *key)
            self._mark(key)
        else:
            self._again(key, sighting, now_us)
        if event.event_id and len(sighting.event_ids) < KEPT_MAX:
            sighting.event_ids.append(event.event_id)

    def _again(self, key: SymptomKey, sighting: Sighting, now_us: int) -> None:
        if sighting.cleared_us is not None:
            gone_us = now_us - sighting.cleared_us
            over = self._is_over(sighting.incident, gone_us)
            sighting.cleared_us = None
            if over:
                self._anew(key, sighting, now_us)
        sighting.last_us = now_us
        sighting.count += 1
        if sighting.count == 2:  # noqa: PLR2004 - the second sighting is what corroborates
            self._mark(key)
        incident = self.state.incidents.get(sighting.incident or "")
        if incident is not None:
            incident.active_us = now_us

    def _is_over(self, incident_id: str | None, gone_us: int) -> bool:
        """Claim that what a symptom stood for had ended before it came back."""
        if incident_id is None or gone_us >= 2 * self._knob_us["settle"]:
            return True
        if gone_us < self._knob_us["lateness"]:
            return False
        return not any(self._stands(key) for key in self.evidence.get(incident_id, ()))

    def _anew(self, key: SymptomKey, sighting: Sighting, now_us: int) -> None:
        """A symptom that had been gone is the first of something new, not more of the old."""
        sighting.first_us = now_us
        sighting.count = 0
        if sighting.incident is not None:
            self.evidence.get(sighting.incident, set()).discard(key)
            self.state.wake(now_us, "close", sighting.incident)
            sighting.incident = None
            self.state.wake(now_us + self._knob_us["stale"], "expire", *key)
        self._mark(key)

    def _excused(self, spec: SymptomSpec, entity: str) -> bool:
        return any(
            self._stands((str(spec.unless_symptom), node))
            for node in walk(self.state.topology, entity, spec.unless_path)
        )

    def _stands(self, key: SymptomKey) -> bool:
        sighting = self.state.sightings.get(key)
        return sighting is not None and sighting.cleared_us is None

    def _know(self, entity: str) -> None:
        if self.state.topology.add_node(entity):
            self.state.count("unknown_entities")
            self.codebook.forget([entity])

    def _index(self, key: SymptomKey) -> None:
        for fault, cell in self.codebook.causes(*key):
            self.support.setdefault(fault, {})[key] = cell
        incident = self.state.sightings[key].incident
        if incident is not None:
            self.evidence.setdefault(incident, set()).add(key)

    def _mark(self, key: SymptomKey) -> None:
        state = self.state
        state.dirty.add(key)
        if self.rules.symptoms[key[0]].spurious <= CERTAIN_SPURIOUS:
            self._look()
        else:
            state.wake(state.live_us + self._knob_us["gather"], "look")

    def _clear(self, key: SymptomKey, event: Event | None = None) -> None:
        sighting = self.state.sightings.get(key)
        if sighting is None or sighting.cleared_us is not None:
            return
        now_us = self.state.live_us
        sighting.cleared_us = now_us
        if sighting.incident:
            self.state.wake(now_us + self._knob_us["settle"], "close", sighting.incident)
        else:
            self.state.wake(now_us + self._knob_us["settle"], "expire", *key)
        if event is not None and event.event_id and len(sighting.event_ids) < KEPT_MAX:
            sighting.event_ids.append(event.event_id)

    def _quiet(self, key: SymptomKey) -> None:
        window = self.state.windows.get(key)
        spec = self.rules.symptoms.get(key[0])
        if not window or spec is None or spec.quiet_us is None:
            return
        if window[-1] + spec.quiet_us <= self.state.live_us:
            del self.state.windows[key]
            self._clear(key)

    def _expire(self, key: SymptomKey) -> None:
        """Forget a symptom that no incident holds and that has ended, or was not seen again."""
        sighting = self.state.sightings.get(key)
        if sighting is None or sighting.incident is not None:
            return
        if self._ends_us(sighting) <= self.state.live_us:
            self._drop(key)
        else:
            self.state.wake(self._ends_us(sighting), "expire", *key)

    def _ends_us(self, sighting: Sighting) -> int:
        if sighting.cleared_us is not None:
            return sighting.cleared_us + self._knob_us["settle"]
        return sighting.last_us + self._knob_us["stale"]

    def _drop(self, key: SymptomKey) -> None:
        for fault, _ in self.codebook.causes(*key):
            shown = self.support.get(fault)
            if shown is not None:
                shown.pop(key, None)
                if not shown:
                    del self.support[fault]
        del self.state.sightings[key]
        self.state.dirty.discard(key)

    # ---- liveness -------------------------------------------------------------------------

    def _beat(self, spec: SymptomSpec, event: Event) -> None:
        """A signal that should keep coming came: set its deadline anew."""
        key = (spec.name, event.entity)
        due_us = self.state.live_us + spec.absent_us
        if key not in self.state.alive:
            self.state.wake(due_us, "absent", *key)
        self.state.alive[key] = due_us
        self._clear(key)

    def _absent(self, key: SymptomKey) -> None:
        state = self.state
        due_us = state.alive.get(key)
        if due_us is None or key[0] not in self.rules.symptoms:
            return
        due_us = max(due_us, state.gap_until_us)
        if due_us > state.live_us:
            state.wake(due_us, "absent", *key)
            return
        del state.alive[key]
        self._raise(key, Event(entity=key[1], signal=key[0], source="correlator:liveness"))

    def _pulse(self, pulse: Pulse) -> None:
        state = self.state
        seen = state.pulses.get(pulse.collector)
        boot_id = pulse.boot_id or ""
        if seen is not None and seen[1] == boot_id and pulse.seq <= seen[0]:
            state.count("duplicates")
            return
        state.pulses[pulse.collector] = (pulse.seq, boot_id)
        if pulse.host and pulse.boot_id and state.boots.get(pulse.host) != pulse.boot_id:
            if pulse.host in state.boots:
                self._next_generation(pulse.host)
                self._note(pulse.host, "boot_observed", f"new boot_id {pulse.boot_id}")
            state.boots[pulse.host] = pulse.boot_id
        if "collector.silent" in self.rules.symptoms:
            spec = SymptomSpec("collector.silent", absent_us=COLLECTOR_SILENT_US)
            self._beat(spec, Event(entity=pulse.collector, signal="pulse"))

    def _level(self, level: Level) -> None:
        state = self.state
        facts = level.facts[:LEVEL_FACTS_MAX]
        state.count("level_facts_left", len(level.facts) - len(facts))
        now = sorted({(fact.signal, fact.entity) for fact in facts})
        before = set(state.levels.get(level.source, ()))
        for fact in facts:
            if (fact.signal, fact.entity) in before and self._refreshed(fact):
                continue
            self._event(_as_event(fact, level.source, "raised"), spooled=False)
        for signal, entity in sorted(before - set(now)):
            gone = Event(entity=entity, signal=signal, state="cleared", source=level.source)
            self._event(gone, spooled=False)
        state.levels[level.source] = now

    def _refreshed(self, fact: Fact) -> bool:
        """An equal fact refreshes: no second sighting. Claim that it was known already."""
        known = False
        event = _as_event(fact, "", "raised")
        for spec in self.matchers.of(fact.signal):
            sighting = self.state.sightings.get((spec.name, fact.entity))
            if sighting is not None and sighting.cleared_us is None and means(spec, event):
                sighting.last_us = self.state.live_us
                known = True
        return known

    # ---- rare inputs ----------------------------------------------------------------------

    def _rare(self, given: Input) -> None:
        if isinstance(given, Pulse):
            self._pulse(given)
        elif isinstance(given, Level):
            self._level(given)
        elif isinstance(given, TopologyDelta):
            self._delta(given)
        elif isinstance(given, Command):
            self._command(given)
        elif isinstance(given, Result):
            planner.take_result(self, given)
        elif isinstance(given, OwnerClaim):
            if given.supersedes == (self.state.epoch or None):
                self.state.epoch = self.state.offset
        elif isinstance(given, RegionVerdict):
            state = {"failed": "raised", "working": "cleared"}.get(given.state, "unknown")
            event = Event(entity=given.resource, signal="verdict.failed", state=state)  # type: ignore[arg-type]
            self._event(event, spooled=False)

    def _delta(self, delta: TopologyDelta) -> None:
        topology = self.state.topology
        changed = False
        touched = {n for n in (delta.node, delta.from_, delta.to) if n}
        if delta.op == "add_node" and delta.node:
            changed = topology.add_node(delta.node, redundant=delta.redundant)
        elif delta.op == "remove_node" and delta.node:
            near = topology.neighbourhood([delta.node], 1, 1_000_000) or set()
            changed = topology.remove_node(delta.node)
            touched |= near
        elif delta.from_ and delta.to:
            changed = self._edge(delta, delta.from_, delta.to)
            if changed is None:
                return
        if changed:
            self._topology_changed(touched)
        else:
            self.state.count("topology_unchanged")

    def _edge(self, delta: TopologyDelta, dependant: str, dependency: str) -> bool | None:
        topology = self.state.topology
        if delta.op == "remove_edge":
            return topology.remove_edge(dependant, delta.relation, dependency)
        if delta.op == "move_edge":
            text = f"{dependant} now {delta.relation} {dependency} (by {delta.source})"
            self._move(dependant, delta.relation, dependency, "topology_moved", text)
            return None
        if topology.add_edge(dependant, delta.relation, dependency):
            if kind_of(dependant) == "vm" and delta.relation == "hosted_by":
                self._next_generation(dependant)
            return True
        if (dependency, delta.relation) not in topology.up.get(dependant, ()):
            text = f"{dependant} {delta.relation} {dependency} would close a cycle: left out"
            self._note(dependant, "topology_cycle", text, "refuse")
        return False

    def _topology_changed(self, nodes: Iterable[str]) -> None:
        """Work out anew what the edit touched; symptoms standing nearby are looked at again."""
        near = self.codebook.forget(nodes)
        keys = sorted(k for k in self.state.sightings if near is None or k[1] in near)
        if not keys:
            return
        moved = set(keys)
        for fault in sorted(f for f in self.support if near is None or f[1] in near):
            del self.support[fault]
        for shown in self.support.values():
            for key in moved & shown.keys():
                del shown[key]
        for key in sorted(self.state.sightings):
            if near is None or key in moved or self._touches(key, near):
                self._index(key)
        self.state.dirty.update(keys)
        self.state.wake(self.state.live_us + self._knob_us["gather"], "look")

    def _touches(self, key: SymptomKey, near: set[str]) -> bool:
        return any(fault[1] in near for fault, _ in self.codebook.causes(*key))

    def _command(self, command: Command) -> None:
        state = self.state
        if command.command_id is not None:
            if command.command_id in state.commands:
                state.count("duplicates")
                return
            state.commands = [*state.commands[-999:], command.command_id]
        target = command.target
        if command.expires_at and to_microseconds(command.expires_at) < state.log_us:
            self._said(command, "refuse", "command_expired", "came after it had expired")
            return
        if command.command == "maintenance_start":
            until_us = to_microseconds(command.until) if command.until else None
            state.sessions[target] = Session(until_us, command.by, command.reason)
            if until_us is not None:
                ahead_us = max(0, until_us - state.log_us)
                state.wake(state.live_us + ahead_us, "session", target)
            self._said(command, "note", "maintenance_started", "faults of it are expected")
        elif command.command == "maintenance_end":
            ended = state.sessions.pop(target, None)
            state.dirty.update(k for k in state.sightings if k[1] == target)
            self._said(command, "note", "maintenance_ended", "" if ended else "there was none")
            state.wake(state.live_us + self._knob_us["gather"], "look")
        else:
            self._steer(command)

    def _steer(self, command: Command) -> None:
        state = self.state
        if command.command in ("hold", "release"):
            state.hold = command.reason or "held" if command.command == "hold" else None
            self._said(command, "note", f"domain_{command.command}", "")
        elif command.command == "set_mode" and command.target in ("enforce", "dry_run", "approve"):
            state.mode = command.target
            self._said(command, "note", "mode_set", "open plans keep theirs")
        elif command.command == "activate_rules":
            rules = self.library.get(command.target.removeprefix("rules:"))
            if rules is None:
                self._said(command, "refuse", "rules_unknown", "this rule set is not loaded")
                return
            self._activate(rules)
            state.dirty.update(state.sightings)
            state.wake(state.live_us + self._knob_us["gather"], "look")
            self._said(command, "note", "rules_activated", f"{rules.name} {rules.version}")
        else:
            self._said(command, "refuse", "command_has_no_object", "nothing here waits for it")

    def _said(self, command: Command, verdict: str, reason: str, text: str) -> None:
        name = f"{command.command} {command.target}"
        words = " ".join(filter(None, [name, f"by {command.by}" if command.by else "", text]))
        entity = command.target if ":" in command.target else f"domain:{self.state.domain}"
        self._note(entity, reason, f"{words} ({command.reason})" if command.reason else words, verdict)

    def _session_overdue(self, target: str) -> None:
        session = self.state.sessions.get(target)
        if session is None or session.until_us is None or session.until_us > self.state.log_us:
            return
        del self.state.sessions[target]
        self._note(target, "maintenance_overdue", "the session's time is over: rules apply again")
        self.state.dirty.update(k for k in self.state.sightings if k[1] == target)

    # ---- causes → incidents ----------------------------------------------------------------

    def _look(self) -> None:
        """Explain every component that has changed."""
        state = self.state
        look = Look(self.codebook, state.sightings, state.live_us)
        while state.dirty:
            start = min(state.dirty)
            symptoms, candidates = inference.component(look, [start], self.support)
            state.dirty.discard(start)
            state.dirty.difference_update(symptoms)
            if candidates:
                self._reconcile(look, look.explain(symptoms, candidates))

    def _reconcile(self, look: Look, explanation: Explanation) -> None:
        """Bring the incidents in line with what now explains their symptoms best."""
        chosen = {v.candidate.fault[1]: v for v in explanation.verdicts}
        before = self._incidents_of(explanation.symptoms)
        taken: dict[str, Verdict] = {}
        for verdict in explanation.verdicts:
            incident = self._incident_for(verdict, before, chosen, taken)
            if incident is not None:
                taken[incident.incident_id] = verdict
        for incident_id in before:
            incident = self.state.incidents[incident_id]
            if incident_id in taken:
                self._revise(look, incident, taken[incident_id])
            elif chosen and incident.fault[1] not in chosen:
                self._merge(incident, explanation)
        for verdict in explanation.verdicts:
            if not any(other is verdict for other in taken.values()):
                self._consider(look, verdict)
        self._assign(explanation)
        for incident_id in sorted(self._incidents_of(explanation.symptoms)):
            self._plan(incident_id)

    def _incidents_of(self, symptoms: list[SymptomKey]) -> list[str]:
        found = {self.state.sightings[key].incident for key in symptoms}
        return sorted(i for i in found if i is not None and i in self.state.incidents)

    def _incident_for(
        self,
        verdict: Verdict,
        before: list[str],
        chosen: dict[str, Verdict],
        taken: dict[str, Verdict],
    ) -> IncidentState | None:
        entity = verdict.candidate.fault[1]
        incidents = [
            incident
            for incident in (self.state.incidents[i] for i in before if i not in taken)
            if self._continues(incident, verdict)
        ]
        same = [i for i in incidents if i.fault[1] == entity]
        if same:
            return max(same, key=lambda i: (i.onset_us, i.incident_id))
        free = [i for i in incidents if i.fault[1] not in chosen]
        overlap = {
            i.incident_id: len(self.evidence.get(i.incident_id, set()) & verdict.candidate.support.keys())
            for i in free
        }
        best = max(free, key=lambda i: (overlap[i.incident_id], -i.opened_us), default=None)
        return best if best is not None and overlap[best.incident_id] else None

    def _continues(self, incident: IncidentState, verdict: Verdict) -> bool:
        """Claim that a cause began early enough to be what the incident was opened for."""
        cells = self.rules.signatures[verdict.candidate.fault[0]].cells
        span_us = max(cell.within_us for cell in cells) + self._knob_us["lateness"]
        return verdict.candidate.onset_us <= incident.onset_us + span_us

    def _consider(self, look: Look, verdict: Verdict) -> None:
        """A fault with no incident yet: wait, mute it, or open one."""
        state = self.state
        candidate = verdict.candidate
        index, entity = candidate.fault
        signature = self.rules.signatures[index]
        if entity in state.sessions:
            session = state.sessions[entity]
            key = f"maintenance:{entity}"
            if key not in state.pending:
                state.pending[key] = (signature.name, state.live_us)
                self._note(
                    entity,
                    "maintenance",
                    f"{signature.name} is expected: maintenance by {session.by} ({session.reason})",
                )
            return
        state.pending.pop(f"maintenance:{entity}", None)
        ready_us = candidate.onset_us + self._knob_us["wait"]
        latest_us = candidate.onset_us + max(self._knob_us["wait"], self._knob_us["wait_max"])
        confident = verdict.confidence >= self.rules.knobs.confident
        due_us = ready_us if confident else latest_us
        if state.live_us >= due_us:
            self._open(look, verdict)
        else:
            self._wake_for(signature.name, entity, candidate.onset_us, due_us)

    def _wake_for(self, signature: str, entity: str, onset_us: int, due_us: int) -> None:
        """Look again when waiting ends, and at the ages at which silence says something new."""
        now_us = self.state.live_us
        for age_s in LOOK_AGES_S:
            at_us = onset_us + round(age_s * 1e6)
            if now_us < at_us < due_us and at_us >= onset_us + self._knob_us["wait"]:
                self.state.wake(at_us, "relook", signature, entity)
                break
        self.state.wake(due_us, "relook", signature, entity)

    def _open(self, look: Look, verdict: Verdict) -> None:
        state = self.state
        index, entity = verdict.candidate.fault
        name = self.rules.signatures[index].name
        incident_id = digest(state.domain, state.offset, state.index, entity)
        incident = IncidentState(
            incident_id=incident_id,
            opened_us=state.live_us,
            onset_us=verdict.candidate.onset_us,
            fault=(name, entity),
            active_us=state.live_us,
            since_us=state.live_us,
            mode=state.mode,
            update=-1,
        )
        state.incidents[incident_id] = incident
        state.roots_us = [*state.roots_us[-9_999:], (state.live_us, entity)]
        for key in sorted(verdict.candidate.support):
            self._own(key, incident_id)
        self._revise(look, incident, verdict)
        span = max(cell.within_us for cell in self.rules.signatures[index].cells)
        final_us = incident.onset_us + span + self._knob_us["lateness"]
        if final_us > state.live_us:
            state.wake(final_us, "relook", name, entity)

    def _own(self, key: SymptomKey, incident_id: str) -> None:
        sighting = self.state.sightings[key]
        if sighting.incident == incident_id:
            return
        if sighting.incident is not None:
            self.evidence.get(sighting.incident, set()).discard(key)
        sighting.incident = incident_id
        self.evidence.setdefault(incident_id, set()).add(key)
        self.state.wake(self._ends_us(sighting), "close", incident_id)

    def _revise(self, look: Look, incident: IncidentState, verdict: Verdict) -> None:
        """Update an incident's cause, confidence and ranking; say so when it matters."""
        state = self.state
        index, entity = verdict.candidate.fault
        name = self.rules.signatures[index].name
        ranking = [
            (self.rules.signatures[fault[0]].name, fault[1], round(score, 6))
            for fault, score in verdict.ranking
        ]
        named = "open" if verdict.confidence >= self.rules.knobs.named else "suspected"
        changed = incident.fault != (name, entity)
        new_entity = incident.fault[1] != entity
        news = (
            incident.update < 0
            or changed
            or named != incident.state
            or [row[1] for row in ranking] != [row[1] for row in incident.ranking]
        )
        if new_entity:
            incident.revises = [*incident.revises[-9:], incident.fault[1]]
            incident.since_us = state.live_us
        incident.fault = (name, entity)
        incident.confidence = round(verdict.confidence, 6)
        incident.margin = round(verdict.margin, 6)
        incident.ranking = ranking
        incident.state = named
        incident.onset_us = min(incident.onset_us, verdict.candidate.onset_us)
        if news:
            incident.update += 1
            incident.updated_us = state.live_us
            self.out.append(report.incident(look, incident, verdict, state))
        if new_entity:
            planner.revoke(self, incident)

    def _merge(self, incident: IncidentState, explanation: Explanation) -> None:
        """An incident whose symptoms another cause now explains ends as part of that one."""
        roots = sorted({v.candidate.fault[1] for v in explanation.verdicts})
        text = f"its symptoms are explained by {', '.join(roots[:3])}"
        self._note(incident.fault[1], "merged", text)
        planner.revoke(self, incident)
        for key in sorted(self.evidence.pop(incident.incident_id, ())):
            self.state.sightings[key].incident = None
            self.state.wake(self._ends_us(self.state.sightings[key]), "expire", *key)
        self._end(incident)

    def _assign(self, explanation: Explanation) -> None:
        """Give each explained symptom to the incident of the cause that explains it."""
        newest_last = sorted(
            self.state.incidents.values(), key=lambda i: (i.onset_us, i.incident_id)
        )
        by_entity = {incident.fault[1]: incident for incident in newest_last}
        for key in explanation.symptoms:
            fault = explanation.owner.get(key)
            incident = by_entity.get(fault[1]) if fault else None
            if incident is None:
                continue
            self._own(key, incident.incident_id)
            incident.active_us = max(incident.active_us, self.state.sightings[key].first_us)

    def _close_if_quiet(self, incident_id: str) -> None:
        incident = self.state.incidents.get(incident_id)
        if incident is None:
            return
        keys = sorted(self.evidence.get(incident_id, ()))
        due_us = max((self._ends_us(self.state.sightings[key]) for key in keys), default=0)
        if due_us > self.state.live_us:
            self.state.wake(due_us, "close", incident_id)
            return
        for key in keys:
            self._drop(key)
        self.evidence.pop(incident_id, None)
        self._end(incident)

    def _end(self, incident: IncidentState) -> None:
        incident.state = "cleared"
        incident.update += 1
        incident.updated_us = self.state.live_us
        self.out.append(report.ended(incident, self.state, self.rules))
        del self.state.incidents[incident.incident_id]

    def _plan(self, incident_id: str) -> None:
        incident = self.state.incidents.get(incident_id)
        if incident is not None:
            planner.plan(self, incident)


LOOK_AGES_S = (0.25, 0.5, 1.0, 1.5, 3.0, 4.0, 6.0, 8.0, 11.5, 14.0, 16.0, 18.0)
"""Ages at which a fault that waits is looked at again: the prototype's steps."""


def _as_event(fact: Fact, source: str, state: str) -> Event:
    return Event(
        entity=fact.entity,
        signal=fact.signal,
        state=state,  # type: ignore[arg-type]
        severity=fact.severity,
        source=source,
        attrs=fact.attrs,
    )

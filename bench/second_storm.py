"""`python -m bench.second_storm --seeds 5`: storms of the second generator, scored against truth.

Each set is replayed twice: once as a recording, for precision and recall of the incidents, and once
in mode enforce beside actuators that confirm with proof, for the fences. The world of a recording
does not react: what was fenced or evacuated goes on as if it had not been.
"""

import argparse
import heapq
import json
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from bench import load
from bench.second.faults import SHARED, Fault
from bench.second.physics import Physics
from bench.second.storm import START_S, VARIANTS, Storm, make, write
from bench.second.world import PLANES
from correlator.engine import Engine, Stamped
from correlator.importers import load_topology
from correlator.recording import open_recording, read
from correlator.replay import renumbered, replay
from correlator.results import FENCE_PROOFS
from correlator.rules import RuleSet, load_pack
from correlator.state import EngineState
from correlator.topology import Topology
from firstfault.packs import find_pack
from schemas.base import from_microseconds
from schemas.inputs import Result, Tick
from schemas.outputs import Action, Decision, Incident, Output

AFTER_S = 120.0
"""An incident may name a fault so long after its end."""
TICK_US = 1_000_000
ANSWER_US = 2_000_000
"""From an action to the word of its actuator."""
STARTS_A_COPY = frozenset({"evacuate_vm", "rebuild_vm", "create_vm"})
NEAR = 2
"""Edges between what was named and what had failed, for it to count as a near miss."""
LISTED = 8


@dataclass(slots=True)
class Told:
    """One incident: what was said of it, in order."""

    incident: Incident
    opened: bool = False
    merged: bool = False
    since: float = 0.0
    """When it began to name its last cause, seconds of the set."""
    until: float = 0.0
    ever: dict[str, float] = field(default_factory=dict)
    """Whatever it named while it was open, and when it did so first."""

    @property
    def root(self) -> str:
        """Return what it names, or last named."""
        return self.incident.causes[0].entity


@dataclass(slots=True)
class Scored:
    """Counts of one set, and the stories of what went wrong."""

    faults: Counter[str] = field(default_factory=Counter)
    visible: Counter[str] = field(default_factory=Counter)
    matched: Counter[str] = field(default_factory=Counter)
    ever: Counter[str] = field(default_factory=Counter)
    counts: Counter[str] = field(default_factory=Counter)
    misses: list[dict[str, Any]] = field(default_factory=list)
    spurious: list[dict[str, Any]] = field(default_factory=list)
    fences: list[dict[str, Any]] = field(default_factory=list)
    copies: list[dict[str, Any]] = field(default_factory=list)

    def add(self, other: "Scored") -> None:
        """Take in another set's."""
        for name in ("faults", "visible", "matched", "ever", "counts"):
            getattr(self, name).update(getattr(other, name))
        for name in ("misses", "spurious", "fences", "copies"):
            getattr(self, name).extend(getattr(other, name))

    def figures(self) -> dict[str, Any]:
        """Return what is printed."""
        counts, seen = self.counts, self.visible.total()
        told, right = counts["told"], counts["right"]
        return {
            "precision": round(right / told, 4) if told else None,
            "recall": round(self.matched.total() / seen, 4) if seen else None,
            "recall_ever": round(self.ever.total() / seen, 4) if seen else None,
            "faults": self.faults.total(),
            "visible": seen,
            "matched": self.matched.total(),
            **dict(sorted(counts.items())),
            "fences": dict(sorted(Counter(one["verdict"] for one in self.fences).items())),
            "second_copies": len(self.copies),
            "kinds": {
                kind: f"{self.matched[kind]}/{self.visible[kind]} of {self.faults[kind]}"
                for kind in sorted(self.faults)
            },
            "spurious_by": dict(Counter(one["rule"] for one in self.spurious).most_common()),
        }


# ---- precision and recall ----------------------------------------------------------------------


def _seconds(text: str) -> float:
    return datetime.fromisoformat(text).timestamp() - START_S


def heard(outputs: Iterator[Output]) -> list[Told]:
    """Return what was said of each incident, merged ones marked."""
    known: dict[str, Told] = {}
    merged: set[tuple[str, str]] = set()
    ended: dict[str, tuple[str, str]] = {}
    for output in outputs:
        if isinstance(output, Incident):
            _hear(known, output)
            if output.state == "cleared":
                ended[output.incident_id] = (output.updated_at, output.causes[0].entity)
        elif isinstance(output, Decision) and output.reason == "merged":
            merged.add((output.decided_at, output.entity))
    for name, end in ended.items():
        known[name].merged = end in merged
    return list(known.values())


def _hear(known: dict[str, Told], incident: Incident) -> None:
    """Note what an incident names, and since when; a closing message names nothing new."""
    told = known.setdefault(incident.incident_id, Told(incident))
    told.until = _seconds(incident.updated_at)
    if incident.update == 0:
        told.since = _seconds(incident.opened_at)
    elif incident.state != "cleared" and incident.causes[0].entity != told.root:
        told.since = told.until
    if incident.state == "open":
        told.opened = True
        told.ever.setdefault(incident.causes[0].entity, told.until)
    if incident.state != "cleared":
        told.incident = incident


def score(storm: Storm, told: list[Told], topology: Topology) -> Scored:
    """Set what was named against what was true."""
    scored, visible = Scored(), storm.visible()
    accepted = {f"collector:{name}" for _, name in storm.standing}
    opened = [one for one in told if one.opened and not one.merged]
    scored.counts.update(merged=sum(one.merged for one in told))
    scored.counts.update(only_suspected=sum(not (one.opened or one.merged) for one in told))
    found: set[int] = set()
    for one in opened:
        numbers = [n for n in range(len(storm.faults)) if _names(one, storm, n)]
        found.update(numbers)
        scored.counts.update(told=1, right=bool(numbers) or one.root in accepted)
        if not numbers and one.root not in accepted:
            story = _spurious(storm, one, topology)
            scored.counts.update(near_misses=bool(story["near"]), misplaced=story["misplaced"])
            scored.spurious.append(story)
    for number, fault in enumerate(storm.faults):
        scored.faults[fault.kind] += 1
        scored.visible[fault.kind] += number in visible
        scored.matched[fault.kind] += number in visible and number in found
        once = any(_named_once(one, fault) for one in told)
        scored.ever[fault.kind] += number in visible and once
        if number in visible and number not in found:
            scored.misses.append(_miss(storm, number, told, topology))
    return scored


def _names(told: Told, storm: Storm, number: int) -> bool:
    fault = storm.faults[number]
    in_time = told.since <= fault.end + AFTER_S and told.until >= fault.start
    return told.root in fault.names and in_time


def _named_once(told: Told, fault: Fault) -> bool:
    """Claim that an incident named a fault in time, whatever became of it later."""
    times = (told.ever[name] for name in fault.names if name in told.ever)
    return any(fault.start <= at <= fault.end + AFTER_S for at in times)


def _distance(topology: Topology, start: str, most: int) -> dict[str, int]:
    """Return entity → edges from it, either way, up to so many."""
    found, edge = {start: 0}, {start}
    for steps in range(1, most + 1):
        known = sorted(entity for entity in edge if entity in topology)
        above = {other for entity in known for other, _ in topology.up[entity]}
        below = {other for entity in known for other in topology.down[entity]}
        edge = (above | below) - found.keys()
        found |= dict.fromkeys(sorted(edge), steps)
    return found


def _spurious(storm: Storm, told: Told, topology: Topology) -> dict[str, Any]:
    """Tell what was named, on what evidence, and what was true."""
    near = _distance(topology, told.root, NEAR)
    within = [f for f in storm.faults if f.start <= told.until and told.since <= f.end + AFTER_S]
    evidence = [one for one in told.incident.evidence if one.role == "for"]
    return {
        "set": f"{storm.variant}-{storm.seed}",
        "named": told.root,
        "rule": told.incident.causes[0].signature,
        "confidence": told.incident.confidence,
        "misplaced": told.root.partition(":")[2].partition(".app")[0] in storm.placed,
        "at": [round(told.since, 1), round(told.until, 1)],
        "evidence": [f"{e.symptom} {e.entity} x{e.count}" for e in evidence[:LISTED]],
        "near": [f"{f.kind} {f.names[0]}" for f in within if near.keys() & set(f.names)],
        "true": [f"{f.kind} {f.names[0]} {f.start:.0f}..{f.end:.0f}" for f in within],
    }


def _miss(storm: Storm, number: int, told: list[Told], topology: Topology) -> dict[str, Any]:
    """Tell what was true, what arrived of it, and what was named near it."""
    fault = storm.faults[number]
    near = _distance(topology, fault.names[0], NEAR)
    arrived = [w for one in storm.arrivals for w in one.raised if number in w.causes]
    on: dict[str, set[str]] = {}
    for word in arrived:
        on.setdefault(word.sight.signal, set()).add(word.sight.entity)
    said = Counter(word.sight.signal for word in arrived)
    named = [
        f"{one.root} {one.incident.causes[0].signature}"
        f"{' (merged)' if one.merged else '' if one.opened else ' (suspected)'}"
        for one in told
        if one.since <= fault.end + AFTER_S and one.until >= fault.start and one.root in near
    ]
    return {
        "set": f"{storm.variant}-{storm.seed}",
        "true": f"{fault.kind} {fault.names[0]} {fault.start:.1f}..{fault.end:.1f}",
        "arrived": [
            f"{signal} x{said[signal]} on {min(of)}{' and more' if len(of) > 1 else ''}"
            for signal, of in sorted(on.items())
        ],
        "named_near": named,
        "beside": [
            f"{f.kind} {f.names[0]} {f.start:.0f}..{f.end:.0f}"
            for f in storm.faults
            if f is not fault and f.start <= fault.end and fault.start <= f.end
        ],
    }


# ---- fences --------------------------------------------------------------------------------------


@dataclass(slots=True)
class Enforced:
    """A set folded in mode enforce: it ticks as a live log does, and each action is answered."""

    engine: Engine
    now_us: int
    answers: list[tuple[int, int, Result]] = field(default_factory=list)
    acted: list[tuple[float, Action]] = field(default_factory=list)
    answered: dict[str, Result] = field(default_factory=dict)
    offset: int = 0

    def play(self, records: Iterator[Stamped]) -> None:
        """Fold the records, with ticks and answers between them."""
        for record in records:
            self._until(record.log_us)
            self._step(record.log_us, record)

    def _until(self, until_us: int) -> None:
        while True:
            live_us = self.engine.state.live_us
            due_us = self.engine.next_deadline_us()
            next_us = self.now_us + TICK_US
            if due_us is not None:
                next_us = min(next_us, self.now_us + max(1, due_us - live_us))
            answer_us = self.answers[0][0] if self.answers else until_us
            if min(next_us, answer_us) >= until_us:
                return
            if answer_us <= next_us:
                _, _, result = heapq.heappop(self.answers)
                self._step(answer_us, Stamped(0, 0, answer_us, result))
            else:
                self._step(next_us, Stamped(0, 0, next_us, Tick()))

    def _step(self, at_us: int, record: Stamped) -> None:
        self.offset, self.now_us = self.offset + 1, max(self.now_us, at_us)
        numbered = Stamped(self.offset, 0, self.now_us, record.input)
        for output in self.engine.step(numbered):
            if isinstance(output, Action) and output.mode == "enforce":
                self._act(output)

    def _act(self, action: Action) -> None:
        self.acted.append((self.now_us / 1e6 - START_S, action))
        at_us = self.now_us + ANSWER_US
        result = self.answered.get(action.idempotency_key) or _confirmed(action, at_us)
        self.answered[action.idempotency_key] = result
        result = result.model_copy(update={"action_id": action.action_id})
        heapq.heappush(self.answers, (at_us, len(self.acted), result))


def _confirmed(action: Action, at_us: int) -> Result:
    proof: dict[str, Any] = {"observed_at": from_microseconds(at_us)}
    if action.verb == "fence":
        method = action.method or "bmc_off"
        proof |= {"method": method, "observed_state": min(FENCE_PROOFS[method])}
    return Result(
        action_id=action.action_id,
        idempotency_key=action.idempotency_key,
        epoch_seen=action.epoch,
        actuator="actuator:bench",
        state="CONFIRMED",
        proof=proof,
    )


def _judge_actions(storm: Storm, acted: list[tuple[float, Action]], scored: Scored) -> None:
    """A fence must hit a host that was ill itself; a copy must not meet a living one."""
    off: set[str] = set()
    for at, action in acted:
        scored.counts[f"did_{action.verb}"] += 1
        kind, _, name = action.target.partition(":")
        story = {
            "set": f"{storm.variant}-{storm.seed}",
            "at": round(at, 1),
            "target": action.target,
            "cause": action.cause,
            "confidence": action.confidence,
            "true": _true_at(storm, at),
        }
        if action.verb == "fence" and kind == "host":
            off.add(name)
            verdict = fence_verdict(storm, name, at)
            scored.fences.append({"verdict": verdict, "was": _condition(storm, name, at), **story})
        if action.verb in STARTS_A_COPY and name in storm.site.vms:
            vm = storm.site.vms[name]
            if storm.physics(at).process(vm) and vm.host not in off:
                if _is_refused(action, vm.host):
                    scored.counts["refused_by_precondition"] += 1
                else:
                    scored.copies.append({"verb": action.verb, "runs_on": vm.host, **story})


def _is_refused(action: Action, host: str) -> bool:
    """Claim that an actuator refuses, as the contract asks: the VM is not where it should be."""
    said = (one for one in action.preconditions if one.fact == "vm_host")
    return any(one.equals != f"host:{host}" for one in said)


def _true_at(storm: Storm, at: float) -> list[str]:
    near = [f for f in storm.faults if f.start <= at <= f.end + AFTER_S]
    return [f"{f.kind} {f.names[0]} {f.start:.0f}..{f.end:.0f}" for f in near]


def fence_verdict(storm: Storm, name: str, at: float) -> str:
    """Set a fence against the truth.

    `wrong`: the host was well. `unwise`: what it shares was enough to make it ill, and what is its
    own was not, so a fence helps nobody; where it took both, others that share it are well.
    `manageable`: it was ill, but alive and reached on the management plane. Else `right`.
    """
    now, host = storm.physics(at), storm.site.hosts.get(name)
    if host is None or now.well(name):
        return "wrong"
    shared = frozenset(one for one in now.broken if one[0] in SHARED)
    is_enough = [not Physics(storm.site, one).well(name) for one in (shared, now.broken - shared)]
    if is_enough == [True, False]:
        return "unwise"
    alive = name in now.user and now.routed(host, "mgmt")
    return "manageable" if alive else "right"


def _condition(storm: Storm, name: str, at: float) -> str:
    now = storm.physics(at)
    if name not in now.user:
        return "off" if name not in now.powered else "dead"
    planes = [plane for plane in PLANES if now.routed(storm.site.hosts[name], plane)]
    disks = "stores" if name in now.stored else "stores nothing"
    return f"alive, reached on {', '.join(planes) or 'no plane'}, {disks}"


# ---- the whole -----------------------------------------------------------------------------------


def measure(storm: Storm, rules: RuleSet) -> Scored:
    """Return the score of one set."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write(storm, folder)
        recording = open_recording(folder / "log.jsonl")
        topology = load_topology(folder / "topology.json", rules.schema)[0]
        outputs = (out for _, _, out in replay(recording, topology, rules, load.refuse))
        scored = score(storm, heard(outputs), topology)
        state = EngineState("second", topology.copy(), rules.hash, ticks="recorded", mode="enforce")
        enforced = Enforced(Engine(state, rules), round(START_S * 1e6))
        enforced.play(renumbered(read(recording, load.refuse)))
    _judge_actions(storm, enforced.acted, scored)
    return scored


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print one JSON document."""
    parser = argparse.ArgumentParser(prog="python -m bench.second_storm", description=__doc__)
    parser.add_argument("--seeds", type=int, default=5, metavar="N", help="sets per variant")
    parser.add_argument("--first", type=int, default=1, metavar="SEED", help="of the first set")
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=["lossy", "hard"])
    parser.add_argument("--rules", default="nfvi", metavar="PACK")
    parser.add_argument("--stories", type=Path, metavar="FILE", help="write what went wrong")
    options = parser.parse_args(arguments)
    rules = load_pack(find_pack(options.rules))
    figures: dict[str, Any] = {"rules": options.rules, "seeds": options.seeds}
    stories: dict[str, Any] = {}
    for variant in options.variants:
        whole = Scored()
        for seed in range(options.first, options.first + options.seeds):
            print(variant, seed, file=sys.stderr)
            whole.add(measure(make(variant, seed), rules))
        figures[variant] = whole.figures()
        names = ("misses", "spurious", "fences", "copies")
        stories[variant] = {name: getattr(whole, name) for name in names}
    print(json.dumps(figures, indent=2))
    if options.stories:
        options.stories.write_text(json.dumps(stories, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""What arrives in the log: reports, reminders and clears, as noise leaves them.

Events carry the full signal in `type` (`nic.carrier.down`) and its first word in `layer`; `ts`
is the time of arrival in the log, in seconds. Where delivery was late, `attrs.observed_at` is
the source's own clock. A reminder of a standing alarm has a new event_id and `attrs.repeat`; a
duplicate is the same event again, with the same event_id and a later `ts`.
"""

from __future__ import annotations

import hashlib
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, TypedDict

from bench.storm.faults import FAULT_CLASSES, Fault, accepted
from bench.storm.observers import SPURIOUS, Attribute, Sighting, Watch, sightings, watches
from bench.storm.physics import MINUTE_S, Span, happen, next_outside
from bench.storm.site import Entity, Site, name_of

START: Final = 1_795_428_000.0
"""Epoch seconds of the first moment of a recording: 2026-11-23T10:00:00Z, a whole minute."""
TRANSPORT_S: Final = (0.005, 0.03)
"""Collector to log (d4)."""
RELIST_S: Final = (0.05, 1.0)
"""An observer that sees again looks at everything this soon."""


@dataclass(frozen=True)
class Noise:
    """What monitoring does to the truth; all shares are 0 to 1, the default is no noise.

    Attributes:
        symptom_loss: Share of alarms (with their reminders and clears) that never arrive.
        root_loss: The same for alarms on a fault's own root or an equivalent of it.
        duplicate: Share of events that arrive a second time within 2 s.
        reorder: Share of events overtaken by others, by up to `reorder_s` seconds.
        reorder_s: Largest delay of a reordered event, seconds.
        late: Share of events delayed by `late_s` seconds.
        late_s: Bounds of that lateness, seconds.
        spurious_per_hour: False alarms per entity and hour.
        silent_types: Share of the signal names that nobody monitors here.
        missing_clear: Share of clears that are never sent.
        minute_stamps: `ts` is the end of the minute of arrival, as with polled data.
    """

    symptom_loss: float = 0.0
    root_loss: float = 0.0
    duplicate: float = 0.0
    reorder: float = 0.0
    reorder_s: float = 1.0
    late: float = 0.0
    late_s: Span = (2.0, 10.0)
    spurious_per_hour: float = 0.0
    silent_types: float = 0.0
    missing_clear: float = 0.0
    minute_stamps: bool = False


NOISES: Final[dict[str, Noise]] = {
    "calm": Noise(),
    "lossy": Noise(
        symptom_loss=0.1, root_loss=0.3, duplicate=0.02, reorder=0.05, late=0.05,
        spurious_per_hour=0.2, missing_clear=0.02,
    ),
    "hostile": Noise(
        symptom_loss=0.3, root_loss=0.5, duplicate=0.1, reorder=0.2, late=0.2,
        spurious_per_hour=2.0, silent_types=0.15, missing_clear=0.2,
    ),
}  # fmt: skip
"""Presets; the loss rates are those of the correlation method's table of storms."""


class EntityReference(TypedDict):
    """An entity as recordings write it."""

    kind: str
    id: str


class Event(TypedDict):
    """One line of events.jsonl; `ts` in epoch seconds."""

    ts: float
    entity: EntityReference
    layer: str
    type: str
    state: str
    severity: str
    attrs: dict[str, Attribute]
    source: str
    event_id: str


@dataclass
class Tape:
    """What has been heard so far: arrival, observation (both relative seconds) and event."""

    rng: random.Random
    seconds: float
    noise: Noise
    seed: int
    silent: tuple[str, ...] = ()
    roots: dict[Entity, bool] = field(default_factory=dict)
    heard: list[tuple[float, float, Event]] = field(default_factory=list)
    count: int = 0

    def events(self) -> list[Event]:
        """The events by time of arrival; ties by observation, then by event id."""
        order = sorted(self.heard, key=lambda item: (item[0], item[1], item[2]["event_id"]))
        return [event for _, _, event in order]


def storm(
    site: Site, faults: Sequence[Fault], seconds: float, noise: Noise, seed: int
) -> list[Event]:
    """The events that monitoring sends while the faults happen, sorted by `ts`.

    Args:
        site: Where it happens.
        faults: What happens, in any order; overlaps, also on one subtree, are worked out.
        seconds: Length of the recording; what is observed later is left out.
        noise: What is lost, false, late or doubled on the way.
        seed: Decides every delay and every bit of noise.

    Raises:
        ValueError: A fault's root is not in the site, is of the wrong kind, or ends too soon.
    """
    _check(site, faults)
    rng = random.Random(seed)
    world = happen(site, faults, rng)
    names = sorted({watch.signal for watch in watches()})
    silent = tuple(rng.sample(names, round(noise.silent_types * len(names))))
    tape = Tape(rng, seconds, noise, seed, silent)
    for fault in faults:
        tape.roots.update(dict.fromkeys([fault.root, *accepted(site, fault)], True))
    for sighting in sightings(site, world):
        _hear(tape, sighting)
    _imagine(tape, site)
    return tape.events()


def _check(site: Site, faults: Sequence[Fault]) -> None:
    """Refuses faults that cannot happen at this site."""
    known = {(node["kind"], node["id"]) for node in site.nodes}
    for fault in faults:
        expected = FAULT_CLASSES[fault.kind]["root"]
        if fault.root[0] != expected or fault.root not in known:
            message = f"{fault.kind.value} cannot strike {name_of(fault.root)}"
            raise ValueError(message)
        if fault.until <= fault.at or fault.bounces < 1:
            message = f"{fault.kind.value} at {fault.at} s ends at {fault.until} s"
            raise ValueError(message)


def _hear(tape: Tape, sighting: Sighting) -> None:
    """Records what one observer sends about each time its condition held."""
    watch, rng, noise = sighting.watch, tape.rng, tape.noise
    loss = noise.root_loss if sighting.entity in tape.roots else noise.symptom_loss
    transport, last = rng.uniform(*TRANSPORT_S), 0.0
    for start, end in sighting.when:
        seen = max(start + rng.uniform(*watch.first), last)
        hidden_until = next_outside(seen, sighting.blind)
        if hidden_until > seen:
            seen = next_outside(hidden_until + rng.uniform(*RELIST_S), sighting.blind)
        works, lost = rng.random() < watch.chance, rng.random() < loss
        if lost or not works or watch.signal in tape.silent or seen >= min(end, tape.seconds):
            continue
        moments = _reminders(tape, sighting, (seen, end))
        for repeat, moment in enumerate(moments):
            _record(tape, sighting, (moment, moment + transport), repeat)
        last = _hear_clear(tape, sighting, (end, transport)) + 0.002


def _reminders(tape: Tape, sighting: Sighting, span: Span) -> list[float]:
    """The first report and its reminders, each with a jitter of 2 % of the period."""
    moments, period = [span[0]], sighting.watch.again
    moment = span[0]
    while period > 0:
        moment += period * tape.rng.uniform(0.98, 1.02)
        if moment >= min(span[1], tape.seconds):
            break
        if next_outside(moment, sighting.blind) == moment:
            moments.append(moment)
    return moments


def _hear_clear(tape: Tape, sighting: Sighting, end: tuple[float, float]) -> float:
    """Records the clear of a condition, given its end and the transport, and returns when.

    Monitoring notices a recovery within 5 s even where it took longer to notice the failure.
    """
    low, high = sighting.watch.first
    cleared = end[0] + tape.rng.uniform(min(low, 1.0), min(high, 5.0))
    cleared = next_outside(cleared, sighting.blind)
    sent = sighting.watch.clears and tape.rng.random() >= tape.noise.missing_clear
    if sent and cleared < tape.seconds:
        _record(tape, sighting, (cleared, cleared + end[1]), None)
    return cleared


def _record(tape: Tape, sighting: Sighting, moment: Span, repeat: int | None) -> None:
    """Puts one event on the tape.

    Args:
        tape: Where to.
        sighting: Who reports what.
        moment: Time of observation and earliest time of arrival, relative seconds.
        repeat: Number of the reminder, 0 for the first report, None for a clear.
    """
    noise, rng, watch = tape.noise, tape.rng, sighting.watch
    late = rng.uniform(*noise.late_s) if rng.random() < noise.late else 0.0
    late += rng.uniform(0.0, noise.reorder_s) if rng.random() < noise.reorder else 0.0
    attrs = dict(sighting.attrs)
    if "ok" in attrs:
        attrs["ok"] = repeat is None
    if repeat:
        attrs["repeat"] = repeat
    if late or noise.minute_stamps:
        attrs["observed_at"] = round(START + moment[0], 3)
    tape.count += 1
    state = "cleared" if repeat is None else "raised"
    event: Event = {
        "ts": _stamp(tape, moment[1] + late),
        "entity": {"kind": sighting.entity[0], "id": sighting.entity[1]},
        "layer": watch.signal.partition(".")[0],
        "type": watch.signal,
        "state": state,
        "severity": "info" if repeat is None else watch.severity,
        "attrs": attrs,
        "source": sighting.source,
        "event_id": _digest(tape, sighting, state),
    }
    tape.heard.append((event["ts"], moment[0], event))
    if rng.random() < noise.duplicate:
        again = moment[1] + late + rng.uniform(0.0, 2.0)
        double: Event = {**event, "ts": _stamp(tape, again)}
        tape.heard.append((double["ts"], moment[0], double))


def _stamp(tape: Tape, arrival: float) -> float:
    """Epoch seconds of an arrival, to the millisecond or up to the next whole minute."""
    if tape.noise.minute_stamps:
        return START + MINUTE_S * math.ceil(arrival / MINUTE_S)
    return round(START + arrival, 3)


def _digest(tape: Tape, sighting: Sighting, state: str) -> str:
    """An event id: 32 hexadecimal digits, unique because the running number is hashed too."""
    words = (str(tape.seed), str(tape.count), sighting.source, name_of(sighting.entity))
    text = "|".join((*words, sighting.watch.signal, state))
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _imagine(tape: Tape, site: Site) -> None:
    """Records false alarms: a Poisson stream over all entities, most of them cleared soon."""
    entities = [(node["kind"], node["id"]) for node in site.nodes if node["kind"] in SPURIOUS]
    rate = tape.noise.spurious_per_hour * len(entities) / 3600.0
    moment = tape.rng.expovariate(rate) if rate > 0 else math.inf
    while moment < tape.seconds:
        entity = tape.rng.choice(entities)
        watch, transport = SPURIOUS[entity[0]], tape.rng.uniform(*TRANSPORT_S)
        place = site.hosts[site.host_of[entity]].site
        sighting = Sighting(watch, entity, f"collector:probe-{place}", ())
        if watch.signal not in tape.silent:
            _record(tape, sighting, (moment, moment + transport), 0)
            _hear_clear(tape, sighting, (moment + tape.rng.uniform(1.0, 8.0), transport))
        moment += tape.rng.expovariate(rate)


BACKGROUND: Final[dict[str, tuple[str, ...]]] = {
    "host": ("os.load.sample", "os.memory.sample", "os.session.info"),
    "nic": ("nic.rx.sample", "nic.tx.sample"),
    "switch_port": ("tor.counters.sample",),
    "vm": ("vm.cpu.sample", "vm.disk.sample", "vm.balloon.info"),
    "app": ("app.requests.sample", "app.audit.info"),
    "path": ("path.latency.sample",),
}
"""Harmless readings by kind of entity: no fault ever sends them and no rule should match."""


def background(site: Site, count: int, seconds: float, seed: int) -> list[Event]:
    """So many metric and info events, evenly spread over time and entities, sorted by `ts`."""
    rng = random.Random(seed)
    tape = Tape(rng, seconds, Noise(), -1 - seed)
    entities = [(node["kind"], node["id"]) for node in site.nodes if node["kind"] in BACKGROUND]
    for _ in range(count):
        entity, moment = rng.choice(entities), rng.uniform(0.0, seconds)
        host = site.host_of[entity]
        watch = Watch(rng.choice(BACKGROUND[entity[0]]), "info", (0.0, 0.0))
        value: dict[str, Attribute] = {"value": round(rng.random(), 4)}
        sighting = Sighting(watch, entity, f"collector:{host}/metrics", (), (), value)
        _record(tape, sighting, (moment, moment + TRANSPORT_S[0]), 0)
    return tape.events()

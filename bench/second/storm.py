"""A whole set: site, faults, what arrives in the log, and the truth beside it; as a folder."""

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench.second.faults import Fault, broken_at, draw
from bench.second.noise import QUIET, Arrival, Noise, Way, false_alarms
from bench.second.physics import Broken, Physics
from bench.second.speech import Listing, Word, speak
from bench.second.world import SERVICES, Site, build, inventory, probe_sources

START_S = 1_780_000_000.0
"""Log time of second 0 of every set."""
MISPLACED = 0.05
"""Of the VMs, in the inventory of the hard variant."""
HOST_NAMED = 0.5
"""Of the events about VMs say on which host they are."""
HINTS = frozenset({"nova.svc.down", "agent.lost", "vm.qga.lost"})
"""Of these the signal catalogue says that they corroborate and never lead."""
EACH = 5
"""Collectors of hosts, and as many services, of which one is dead in the hard variant."""
VARIANTS = ("quiet", "lossy", "hard")


@dataclass(frozen=True, slots=True)
class Storm:
    """A set and its truth; times are seconds of the set."""

    variant: str
    seed: int
    site: Site
    faults: tuple[Fault, ...]
    arrivals: tuple[Arrival, ...]
    placed: dict[str, str]
    """VM → the host where the inventory wrongly has it"""
    standing: Broken
    """What is broken from beginning to end: the dead collector."""
    end: float

    def physics(self, at: float) -> Physics:
        """Return what works at a time."""
        return Physics(self.site, broken_at(self.faults, at), None)

    def visible(self) -> set[int]:
        """Return the faults of which a raised word has arrived that is more than a hint."""
        return {
            cause
            for one in self.arrivals
            for word in one.raised
            if word.sight.signal not in HINTS
            for cause in word.causes
        }

    def log(self) -> Iterator[dict[str, Any]]:
        """Yield the lines of a recorded log."""
        yield {"firstfault": "recording", "v": 1, "ticks": "synthesised", "domain": "second"}
        for offset, arrival in enumerate(self.arrivals):
            said = arrival.said
            if isinstance(said, Listing):
                given = self._level(said)
            else:
                given = self._event(said, arrival.event_id)
            yield {"offset": offset, "index": 0, "log_at": _time(arrival.at), "input": given}

    def _level(self, listing: Listing) -> dict[str, Any]:
        facts = [
            {
                "entity": word.sight.entity,
                "signal": word.sight.signal,
                "since": _time(word.at),
                "attrs": self._attrs(word),
            }
            for word in listing.facts
        ]
        return {"type": "level", "source": listing.source, "facts": facts}

    def _event(self, word: Word, event_id: str) -> dict[str, Any]:
        return {
            "type": "event",
            "event_id": f"{self.variant}-{self.seed}-{event_id}",
            "entity": word.sight.entity,
            "signal": word.sight.signal,
            "state": word.state,
            "at": _time(word.at),
            "source": word.sight.source,
            "attrs": self._attrs(word),
        }

    def _attrs(self, word: Word) -> dict[str, str]:
        sight = word.sight
        attrs = {"plane": sight.plane} if sight.plane else {}
        if sight.signal == "peer.reach":
            attrs["from"] = f"host:{sight.source.partition(':')[2].partition('/')[0]}"
        kind, _, name = sight.entity.partition(":")
        named = random.Random(f"{self.seed} {word.at} {name}").random() < HOST_NAMED
        if kind == "vm" and named:
            attrs["host"] = f"host:{self.site.vms[name].host}"
        return attrs

    def labels(self) -> Iterator[dict[str, Any]]:
        """Yield the lines of labels.jsonl; what cannot be seen at all is no label."""
        for number in sorted(self.visible()):
            fault = self.faults[number]
            kind, _, rest = fault.names[0].partition(":")
            yield {
                "ts": START_S + fault.start,
                "end_ts": START_S + fault.end,
                "root_kind": kind,
                "root_id": rest,
                "fault_type": fault.kind,
                "accept": [name.partition(":")[::2] for name in fault.names[1:]],
            }


def _time(at: float) -> str:
    return datetime.fromtimestamp(START_S + at, UTC).isoformat(timespec="microseconds")


def make(variant: str, seed: int, most: int | None = None) -> Storm:
    """Return a set: `quiet` is without noise, `lossy` loses, `hard` overlaps and misleads too.

    Args:
        variant: one of `VARIANTS`.
        seed: the same seed gives the same bytes.
        most: of its faults only so many, the first ones.
    """
    site, rng = build(seed), random.Random(f"{variant} {seed}")
    hard = variant == "hard"
    faults = draw(site, seed, overlapping=hard)[:most]
    standing = _dead_collector(site, faults, rng) if hard else frozenset()
    words, listings, end = speak(site, faults, standing, rng)
    noise = QUIET if variant == "quiet" else Noise()
    real = {word.sight._replace(eye="") for word in words}
    for raised, ended in false_alarms(site, end, noise, rng):
        now = Physics(site, broken_at(faults, raised.at) | standing)
        if raised.sight not in real and _tells(now, raised.sight.source):
            words += (raised, ended)
    arrivals = Way(faults, noise, rng).carry(words, listings)
    placed = _misplaced(site, rng) if hard else {}
    return Storm(variant, seed, site, tuple(faults), tuple(arrivals), placed, standing, end)


def _tells(now: Physics, source: str) -> bool:
    """Claim that an observer lives and gets its words to the log."""
    name = source.removeprefix("collector:").partition("/")[0]
    return now.whole("observer", name) and (name not in now.site.hosts or now.reports(name))


def _dead_collector(site: Site, faults: list[Fault], rng: random.Random) -> Broken:
    """One observer is silent all along: that of a host with a fault to come, or a service."""
    hosts = sorted({fault.host for fault in faults})
    names = [
        *rng.sample(hosts, min(EACH, len(hosts))),
        *rng.sample([*SERVICES, *probe_sources(site)], EACH),
    ]
    return frozenset({("observer", rng.choice(names))})


def _misplaced(site: Site, rng: random.Random) -> dict[str, str]:
    vms = rng.sample(sorted(site.vms), round(MISPLACED * len(site.vms)))
    return {vm: rng.choice([h for h in site.hosts if h != site.vms[vm].host]) for vm in vms}


def write(storm: Storm, folder: Path) -> None:
    """Write a recording folder, with the truth that no engine reads in labels and META."""
    folder.mkdir(parents=True, exist_ok=True)
    _json(folder / "topology.json", inventory(storm.site, storm.placed))
    _lines(folder / "log.jsonl", storm.log())
    _lines(folder / "labels.jsonl", storm.labels())
    meta = {
        "source": "bench.second",
        "variant": storm.variant,
        "seed": storm.seed,
        "faults": len(storm.faults),
        "visible": len(storm.visible()),
        "events": len(storm.arrivals),
        "dead_collector": sorted(name for _, name in storm.standing),
        "misplaced": dict(sorted(storm.placed.items())),
    }
    _json(folder / "META.json", meta)


def _json(path: Path, document: dict[str, Any]) -> None:
    path.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


def _lines(path: Path, rows: Iterator[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")

"""The way from the observers to the log: it loses, delays and doubles, and false alarms join in."""

import random
from collections.abc import Iterator
from dataclasses import dataclass, replace

from bench.second.faults import Fault
from bench.second.observers import Sight
from bench.second.speech import Listing, Speech, Word
from bench.second.world import Site

AUTHORITIES = frozenset(
    {
        "agent.proc.exit",
        "bmc.lost",
        "hv.libvirt.down",
        "hw.disk.smart_prefail",
        "hw.mem.ce_storm",
        "hw.power.off",
        "hw.thermal.crit",
        "hw.thermal.trip",
        "hw.thermal.warn",
        "nic.carrier.down",
        "os.kdump",
        "os.lockup",
        "os.panic",
        "path.all_down",
        "path.down",
        "pdu.outlet.off",
        "pool.lost",
        "tor.lost",
        "tor.port.down",
        "vm.event.panicked",
        "vm.event.stopped_failed",
        "vm.event.watchdog",
        "vs.bond.all_down",
        "vs.proc.exit",
    }
)
"""Signals of somebody who knows, not of one who misses an answer: on what failed, root events."""


@dataclass(frozen=True, slots=True)
class Noise:
    """Shares of the words that suffer; `quiet` does nothing."""

    roots_lost: float = 0.5
    """Of root events, once for all repeats: who is silenced stays so."""
    lost: float = 0.3
    late: float = 0.2
    late_s: tuple[float, float] = (2.0, 10.0)
    doubled: float = 0.05
    false_every_s: float = 30.0
    """Between two false alarms; 0: none."""


NEW_ID = 0.5
"""Of the doubles are the same input again; the others come as if seen twice."""
FALSE_S, BURST_S = (1.0, 8.0), (10.0, 30.0)
"""A false alarm lasts so long; a burst of errors, until the counter is read again."""
QUIET = Noise(0.0, 0.0, 0.0, (0.0, 0.0), 0.0, 0.0)


@dataclass(frozen=True, slots=True)
class Arrival:
    """What is said, with the time the log gives it."""

    at: float
    said: Speech
    event_id: str

    @property
    def raised(self) -> tuple[Word, ...]:
        """Return the conditions it holds for raised."""
        if isinstance(self.said, Listing):
            return self.said.facts
        return (self.said,) if self.said.state == "raised" else ()


class Way:
    """The way to the log, with what it remembers."""

    def __init__(self, faults: list[Fault], noise: Noise, rng: random.Random) -> None:
        self.faults, self.noise, self.rng = faults, noise, rng
        self._silenced: dict[tuple[Sight, frozenset[int]], bool] = {}
        self._latest: dict[Sight, float] = {}

    def carry(self, words: list[Word], listings: list[Listing]) -> list[Arrival]:
        """Return what arrives, in the order of the log.

        What is said of one condition stays in order. Lists are lost and doubled, but never late: an
        old list would take back what has been told since.
        """
        said: list[Speech] = [
            *sorted(words, key=_order),
            *sorted(listings, key=lambda one: (one.at, one.source)),
        ]
        arrivals: list[Arrival] = []
        for number, one in enumerate(said):
            known = self._word(one) if isinstance(one, Word) else self._listing(one)
            if known is None:
                continue
            at = self._arrives(one)
            arrivals.append(Arrival(at, known, f"e{number}"))
            if self.rng.random() < self.noise.doubled:
                again = f"e{number}" if self.rng.random() < NEW_ID else f"e{number}b"
                arrivals.append(Arrival(at + self.rng.uniform(0.01, 1.0), known, again))
        return sorted(arrivals, key=lambda one: (one.at, one.event_id))

    def _arrives(self, one: Speech) -> float:
        at = one.at + self.rng.uniform(0.005, 0.03)
        if isinstance(one, Listing):
            return at
        late_s = (
            self.rng.uniform(*self.noise.late_s) if self.rng.random() < self.noise.late else 0.0
        )
        at = max(at + late_s, self._latest.get(one.sight, 0.0))
        self._latest[one.sight] = at
        return at

    def _word(self, word: Word) -> Word | None:
        if self._is_root(word):
            return None if self._is_silenced(word) else word
        return None if self.rng.random() < self.noise.lost else word

    def _listing(self, listing: Listing) -> Listing | None:
        if self.rng.random() < self.noise.lost:
            return None
        facts = (
            one for one in listing.facts if not (self._is_root(one) and self._is_silenced(one))
        )
        return replace(listing, facts=tuple(facts))

    def _roots(self, word: Word) -> frozenset[int]:
        return frozenset(n for n in word.causes if word.sight.entity in self.faults[n].names)

    def _is_root(self, word: Word) -> bool:
        return word.sight.signal in AUTHORITIES and bool(self._roots(word))

    def _is_silenced(self, word: Word) -> bool:
        """A root event is lost with all its repeats, or not at all."""
        key = (word.sight, self._roots(word))
        if key not in self._silenced:
            self._silenced[key] = self.rng.random() < self.noise.roots_lost
        return self._silenced[key]


def _order(word: Word) -> tuple[float, Sight]:
    return word.at, word.sight


def _turn(listing: Listing) -> tuple[float, str]:
    return listing.at, listing.source


# ---- false alarms ------------------------------------------------------------------------------


def false_alarms(
    site: Site, end: float, noise: Noise, rng: random.Random
) -> Iterator[tuple[Word, Word]]:
    """Yield short false alarms of single observers: a condition raised, and its end."""
    at = 0.0
    while noise.false_every_s and (at := at + rng.expovariate(1 / noise.false_every_s)) < end:
        sight = rng.choice(list(_false(site, rng)))
        ends = at + rng.uniform(*(BURST_S if sight.signal == "nic.errors" else FALSE_S))
        yield Word(at, sight, "raised"), Word(ends, sight, "cleared")


def _false(site: Site, rng: random.Random) -> Iterator[Sight]:
    app, vm = rng.choice(list(site.apps)), rng.choice(list(site.vms.values()))
    name = rng.choice(list(site.hosts))
    host = site.hosts[name]
    peer, plane = rng.choice(site.peers[name]), rng.choice(list(host.planes))
    rack = rng.choice([rack for rack in site.probers[name] if rack != host.rack])
    prober = rng.choice(site.probers[name][rack])
    yield Sight("collector:vnfm", "app.health.bad", f"app:{app}")
    yield Sight("collector:vnfm", "app.hb.lost", f"app:{app}")
    yield Sight("collector:guest-probe", "vm.hb.lost", f"vm:{vm.name}")
    yield Sight(f"collector:{vm.host}/libvirt", "vm.qga.lost", f"vm:{vm.name}")
    yield Sight(f"collector:{prober}/reach", "peer.reach", f"host:{name}", plane=plane)
    yield Sight(f"collector:probe-{rack}", "os.hb.lost", f"host:{name}", plane=plane)
    yield Sight(f"collector:{peer}/ovs", "vs.bfd.down", f"vswitch:{name}", plane="tenant")
    yield Sight(f"collector:{name}/link", "nic.errors", f"nic:{rng.choice(list(host.cards))}")


__all__ = ["AUTHORITIES", "QUIET", "Arrival", "Noise", "Way", "false_alarms"]

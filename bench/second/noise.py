"""The way from the observers to the log: it loses, delays and doubles, and false alarms join in."""

import random
from collections.abc import Iterator
from dataclasses import dataclass, replace

from bench.second.faults import Fault
from bench.second.observers import Sight
from bench.second.speech import Word
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


QUIET = Noise(0.0, 0.0, 0.0, (0.0, 0.0), 0.0, 0.0)


@dataclass(frozen=True, slots=True)
class Arrival:
    """A word with the time the log gives it."""

    at: float
    word: Word
    event_id: str


def carried(
    words: list[Word], faults: list[Fault], noise: Noise, rng: random.Random
) -> list[Arrival]:
    """Return what arrives, in the order of the log; one stream of one source stays in order."""
    silenced: dict[tuple[Sight, frozenset[int]], bool] = {}
    latest: dict[Sight, float] = {}
    arrivals: list[Arrival] = []
    for number, word in enumerate(sorted(words, key=lambda word: (word.at, word.sight))):
        if _lost(word, faults, noise, silenced, rng):
            continue
        late_s = rng.uniform(*noise.late_s) if rng.random() < noise.late else 0.0
        at = max(word.at + rng.uniform(0.005, 0.03) + late_s, latest.get(word.sight, 0.0))
        latest[word.sight] = at
        arrivals.append(Arrival(at, word, f"e{number}"))
        if rng.random() < noise.doubled:
            again = f"e{number}" if rng.random() < 0.5 else f"e{number}b"
            arrivals.append(Arrival(at + rng.uniform(0.01, 1.0), word, again))
    return sorted(arrivals, key=lambda one: (one.at, one.event_id))


def _lost(
    word: Word,
    faults: list[Fault],
    noise: Noise,
    silenced: dict[tuple[Sight, frozenset[int]], bool],
    rng: random.Random,
) -> bool:
    roots = frozenset(n for n in word.causes if word.sight.entity in faults[n].names)
    if roots and word.sight.signal in AUTHORITIES:
        return silenced.setdefault((word.sight, roots), rng.random() < noise.roots_lost)
    return rng.random() < noise.lost


# ---- false alarms ------------------------------------------------------------------------------


def false_alarms(site: Site, end: float, noise: Noise, rng: random.Random) -> list[Word]:
    """Return short false alarms of single observers, none of which names what it does not watch."""
    words: list[Word] = []
    at = 0.0
    while noise.false_every_s and (at := at + rng.expovariate(1 / noise.false_every_s)) < end:
        sight = rng.choice(list(_false(site, rng)))
        raised = Word(at, sight, "raised")
        words += [raised, replace(raised, at=at + rng.uniform(1.0, 8.0), state="cleared")]
    return words


def _false(site: Site, rng: random.Random) -> Iterator[Sight]:
    app, vm = rng.choice(list(site.apps)), rng.choice(list(site.vms))
    name = rng.choice(list(site.hosts))
    host = site.hosts[name]
    peer, plane = rng.choice(site.peers[name]), rng.choice(list(host.planes))
    rack = rng.choice([rack for rack in site.probers[name] if rack != host.rack])
    prober = rng.choice(site.probers[name][rack])
    yield Sight("collector:vnfm", "app.health.bad", f"app:{app}")
    yield Sight("collector:vnfm", "app.hb.lost", f"app:{app}")
    yield Sight("collector:guest-probe", "vm.hb.lost", f"vm:{vm}")
    yield Sight(f"collector:{host.name}/libvirt", "vm.qga.lost", f"vm:{vm}")
    yield Sight(f"collector:{prober}/reach", "peer.reach", f"host:{name}", plane=plane)
    yield Sight(f"collector:probe-{rack}", "os.hb.lost", f"host:{name}", plane=plane)
    yield Sight(f"collector:{peer}/ovs", "vs.bfd.down", f"vswitch:{name}", plane="tenant")
    yield Sight(f"collector:{name}/link", "nic.errors", f"nic:{rng.choice(list(host.cards))}")


__all__ = ["AUTHORITIES", "QUIET", "Arrival", "Noise", "carried", "false_alarms"]

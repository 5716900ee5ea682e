"""From what is seen to what is said: each observer in its own period, with its own jitter.

A condition is told once it has lasted as long as its observer needs, and so is its end; from time
to time a source lists all that it holds for raised, as the wire asks for. Times are the periods and
latenesses of the signal catalogue.
"""

import random
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import pairwise

from bench.second.faults import Fault, broken_at
from bench.second.observers import Seen, Sight, look
from bench.second.physics import STALL_S, Broken, Physics
from bench.second.world import Site

PACES: dict[str, tuple[float, float]] = {
    "agent.lost": (75.0, 85.0),
    "agent.proc.exit": (0.02, 0.5),
    "app.hb.lost": (0.7, 1.0),
    "app.health.bad": (0.6, 1.5),
    "bmc.lost": (4.0, 7.0),
    "collector.lost": (1.0, 1.5),
    "hv.libvirt.down": (0.5, 3.0),
    "hw.disk.smart_prefail": (10.0, 60.0),
    "hw.mem.ce_storm": (10.0, 60.0),
    "hw.power.off": (1.0, 4.0),
    "hw.power.on": (2.0, 4.5),
    "hw.psu.lost": (2.0, 10.0),
    "hw.thermal.crit": (2.0, 10.0),
    "hw.thermal.trip": (1.0, 4.0),
    "hw.thermal.warn": (2.0, 10.0),
    "lease.stale": (10.0, 60.0),
    "nic.carrier.down": (0.001, 0.05),
    "nova.svc.down": (60.0, 75.0),
    "os.hb.lost": (0.6, 0.9),
    "os.hung_task": (120.0, 125.0),
    "os.kdump": (1.0, 5.0),
    "os.lockup": (10.0, 30.0),
    "os.panic": (1.0, 5.0),
    "os.proof.lost": (2.0, 3.2),
    "path.all_down": (2.0, 12.0),
    "path.down": (1.0, 10.0),
    "pdu.outlet.off": (1.0, 5.0),
    "peer.reach": (0.5, 0.8),
    "pool.lost": (2.0, 15.0),
    "tor.lost": (1.0, 5.0),
    "tor.port.down": (0.01, 1.0),
    "vf.link.down": (0.001, 0.05),
    "vm.event.ioerror": (0.02, 3.0),
    "vm.event.panicked": (0.02, 0.1),
    "vm.event.paused": (0.1, 3.2),
    "vm.event.stopped_failed": (0.02, 0.1),
    "vm.event.watchdog": (15.0, 30.0),
    "vm.hb.lost": (0.9, 1.5),
    "vm.qga.lost": (20.0, 30.0),
    "vnf.degraded": (1.0, 3.0),
    "vnf.health.bad": (1.0, 3.0),
    "vrrp.state": (0.4, 7.0),
    "vs.bfd.down": (0.15, 0.5),
    "vs.bond.active_changed": (0.01, 0.1),
    "vs.bond.all_down": (0.01, 0.1),
    "vs.bond.member_down": (0.01, 0.1),
    "vs.proc.exit": (0.02, 0.5),
}
"""signal → seconds until a condition is told, from the soonest to the latest."""
CLEARS_SOONER = 0.3
"""An end is seen in this share of the time that a beginning takes."""
LISTS_S: dict[str, float] = {
    "reach": 10.0,
    "link": 30.0,
    "ovs": 30.0,
    "proc": 30.0,
    "libvirt": 30.0,
    "multipath": 30.0,
    "proof": 30.0,
    "kernel": 30.0,
    "ras": 60.0,
    "pulses": 10.0,
    "redfish": 10.0,
    "gnmi": 30.0,
    "pdu": 10.0,
    "array": 10.0,
    "sanlock": 20.0,
    "nova": 30.0,
    "neutron": 30.0,
    "vnfm": 10.0,
    "guest-probe": 10.0,
}
"""part of a source → seconds between its lists of all it holds for raised; probes of a rack too."""
PROBES_S = 10.0
EMPTY_LISTS = 10
"""So many more lists say that nothing is raised any more: no loss makes all of them vanish."""
DUMPS_S = 10.0
"""A crash kernel says so often that it dumps."""
NEVER_ENDED = frozenset({"os.panic", "os.kdump", "vrrp.state", "vs.bond.active_changed"})
"""Said, and nobody is there to say that it is over."""
AFTER_S = 400.0
"""A set goes on so long after its last fault, so that all can be quiet again."""


@dataclass(frozen=True, slots=True)
class Word:
    """What an observer says, and the faults without which there would be nothing to say."""

    at: float
    sight: Sight
    state: str
    causes: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class Listing:
    """All that one source holds for raised, each with when it was told and through which faults."""

    at: float
    source: str
    facts: tuple[Word, ...]


Speech = Word | Listing


@dataclass(slots=True)
class Story:
    """What became of one condition: (from when, raised, cleared or blind), and through whom."""

    changes: list[tuple[float, str]] = field(default_factory=list)
    causes: list[tuple[float, frozenset[int]]] = field(default_factory=list)

    def causes_at(self, at: float) -> frozenset[int]:
        """Return the faults that mattered to it at a time."""
        return next((c for since, c in reversed(self.causes) if since <= at), frozenset())


def speak(
    site: Site, faults: list[Fault], standing: Broken, rng: random.Random
) -> tuple[list[Word], list[Listing], float]:
    """Return all that is said, in no order, and when it ends; `standing` is broken all along."""
    end = max(fault.end for fault in faults) + AFTER_S
    stories, blind = _stories(site, faults, standing)
    words: list[Word] = []
    held: dict[str, list[tuple[Word, float, Story]]] = {}
    for sight in sorted(stories):
        told = list(_told(sight, stories[sight], end, rng))
        words += told
        if told and _lists_s(sight.source) and sight.signal not in NEVER_ENDED:
            spans = _held(told, stories[sight], end)
            held.setdefault(sight.source, []).extend(spans)
    listings = [
        one
        for source in sorted(held)
        for one in _lists(source, held[source], rng)
        if _eye(source) not in blind[bisect_right(blind, one.at, key=lambda b: b[0]) - 1][1]
    ]
    words += [word for fault in faults for word in _booted(fault, faults, site)]
    return words, listings, end


def _eye(source: str) -> str:
    """Return what must see and be able to tell, for a source to send its list."""
    host, _, part = source.removeprefix("collector:").partition("/")
    return f"libvirt/{host}" if part == "libvirt" else f"local/{host}"


def _lists_s(source: str) -> float:
    """Return the seconds between a source's lists, 0 for one that makes none.

    >>> _lists_s("collector:n1-02/reach"), _lists_s("collector:vnfm"), _lists_s("netconsole")
    (10.0, 10.0, 0.0)
    """
    part = source.rpartition("/")[2].rpartition(":")[2]
    return PROBES_S if part.startswith("probe-") else LISTS_S.get(part, 0.0)


def _held(words: list[Word], story: Story, end: float) -> Iterator[tuple[Word, float, Story]]:
    """Yield each telling of a condition with when its end was told."""
    for word, following in pairwise([*words, None]):
        if word is not None and word.state == "raised":
            yield word, following.at if following else end, story


def _lists(
    source: str, held: list[tuple[Word, float, Story]], rng: random.Random
) -> Iterator[Listing]:
    period = _lists_s(source)
    at, empty = min(word.at for word, _, _ in held) + rng.uniform(0.0, period), 0
    ends = max(until for _, until, _ in held)
    while at < ends or empty < EMPTY_LISTS:
        facts = tuple(
            replace(word, causes=story.causes_at(at))
            for word, until, story in held
            if word.at <= at < until
        )
        empty = 0 if facts else empty + 1
        if empty <= EMPTY_LISTS:
            yield Listing(at, source, facts)
        at += period * rng.uniform(0.95, 1.05)


Blind = list[tuple[float, frozenset[str]]]
"""(from when, the eyes that see nothing)"""


def _stories(site: Site, faults: list[Fault], standing: Broken) -> tuple[dict[Sight, Story], Blind]:
    known: dict[tuple[Broken, Broken], Seen] = {}

    def seen(active: list[Fault], at: float) -> Seen:
        now, before = broken_at(active, at) | standing, broken_at(active, at - STALL_S) | standing
        if (now, before) not in known:
            known[now, before] = look(Physics(site, now, before))
        return known[now, before]

    stories: dict[Sight, Story] = {}
    raised: set[Sight] = set()
    blind: Blind = []
    for at in sorted({0.0, *(turn for fault in faults for turn in fault.turns())}):
        active = [fault for fault in faults if fault.start <= at < fault.end + STALL_S]
        now = seen(active, at)
        blind.append((at, now.blind))
        without = {
            faults.index(fault): seen([one for one in active if one is not fault], at).raised
            for fault in active
        }
        for sight in now.raised:
            story = stories.setdefault(sight, Story())
            matter = frozenset(n for n, others in without.items() if sight not in others)
            story.causes.append((at, matter))
            _turn(story, at, "raised")
        for sight in raised - now.raised:
            _turn(stories[sight], at, "blind" if sight.eye in now.blind else "cleared")
        raised |= now.raised
    return stories, blind


def _turn(story: Story, at: float, state: str) -> None:
    if not story.changes or story.changes[-1][1] != state:
        story.changes.append((at, state))


def _told(sight: Sight, story: Story, end: float, rng: random.Random) -> Iterator[Word]:
    """Yield each beginning that lasted long enough to be seen, and each end of one so told."""
    told, first = "", PACES[sight.signal]
    for (since, state), (until, _) in pairwise([*story.changes, (end, "")]):
        at = since + rng.uniform(*first) * (1.0 if state == "raised" else CLEARS_SOONER)
        if at >= until or state in (told, "blind") or (state == "cleared" and not told):
            continue
        if state == "cleared" and sight.signal in NEVER_ENDED:
            told = ""
            continue
        told = state
        yield Word(at, sight, state, story.causes_at(at) if state == "raised" else frozenset())
        if sight.signal == "os.kdump":
            yield from (
                Word(again, sight, state, story.causes_at(again)) for again in _dumps(at, until)
            )


def _dumps(at: float, until: float) -> Iterator[float]:
    while (at := at + DUMPS_S) < until:
        yield at


def _booted(fault: Fault, faults: list[Fault], site: Site) -> Iterator[Word]:
    """When a host comes back its agent says that it has booted."""
    stopped = {"power", "kernel", "user", "feed"}
    if not stopped & {what for _, broken in fault.phases for what, _ in broken}:
        return
    before = Physics(site, broken_at(faults, fault.end - 0.01))
    after = Physics(site, broken_at(faults, fault.end))
    for host in sorted(after.user - before.user):
        if after.reports(host):
            sight = Sight(f"collector:{host}/os", "os.boot_id.changed", f"host:{host}")
            yield Word(fault.end + 1.0, sight, "raised")

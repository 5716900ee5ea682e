"""From what is seen to what is said: each observer in its own period, with its own jitter.

A condition is told once it has lasted as long as its observer needs, told again while it lasts, and
its end is told three times. Times are the periods and latenesses of the signal catalogue.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from typing import NamedTuple

from bench.second.faults import Fault, broken_at
from bench.second.observers import Seen, Sight, look
from bench.second.physics import STALL_S, Broken, Physics
from bench.second.world import Site


class Pace(NamedTuple):
    """Seconds until a condition is told, and between repeats (none: it is told once)."""

    first: tuple[float, float]
    again: float | None = 30.0


PACES: dict[str, Pace] = {
    "agent.lost": Pace((75.0, 85.0)),
    "agent.proc.exit": Pace((0.02, 0.5)),
    "app.hb.lost": Pace((0.7, 1.0), 10.0),
    "app.health.bad": Pace((0.6, 1.5), 10.0),
    "bmc.lost": Pace((4.0, 7.0), 10.0),
    "collector.lost": Pace((1.0, 1.5), 10.0),
    "hv.libvirt.down": Pace((0.5, 3.0)),
    "hw.disk.smart_prefail": Pace((10.0, 60.0), 60.0),
    "hw.mem.ce_storm": Pace((10.0, 60.0), 60.0),
    "hw.power.off": Pace((1.0, 4.0), 10.0),
    "hw.power.on": Pace((2.0, 4.5), 10.0),
    "hw.psu.lost": Pace((2.0, 10.0)),
    "hw.thermal.crit": Pace((2.0, 10.0), 10.0),
    "hw.thermal.trip": Pace((1.0, 4.0), 10.0),
    "hw.thermal.warn": Pace((2.0, 10.0), 10.0),
    "lease.stale": Pace((10.0, 60.0), 20.0),
    "nic.carrier.down": Pace((0.001, 0.05)),
    "nova.svc.down": Pace((60.0, 75.0)),
    "os.hb.lost": Pace((0.6, 0.9), 10.0),
    "os.hung_task": Pace((120.0, 125.0)),
    "os.kdump": Pace((1.0, 5.0), 10.0),
    "os.lockup": Pace((10.0, 30.0)),
    "os.panic": Pace((1.0, 5.0), None),
    "os.proof.lost": Pace((2.0, 3.2), 10.0),
    "path.all_down": Pace((2.0, 12.0)),
    "path.down": Pace((1.0, 10.0)),
    "pdu.outlet.off": Pace((1.0, 5.0), 10.0),
    "peer.reach": Pace((0.5, 0.8), 10.0),
    "pool.lost": Pace((2.0, 15.0), 10.0),
    "tor.lost": Pace((1.0, 5.0), 10.0),
    "tor.port.down": Pace((0.01, 1.0)),
    "vf.link.down": Pace((0.001, 0.05)),
    "vm.event.ioerror": Pace((0.02, 3.0)),
    "vm.event.panicked": Pace((0.02, 0.1)),
    "vm.event.paused": Pace((0.1, 3.2)),
    "vm.event.stopped_failed": Pace((0.02, 0.1)),
    "vm.event.watchdog": Pace((15.0, 30.0)),
    "vm.hb.lost": Pace((0.9, 1.5), 10.0),
    "vm.qga.lost": Pace((20.0, 30.0)),
    "vnf.degraded": Pace((1.0, 3.0), 10.0),
    "vnf.health.bad": Pace((1.0, 3.0), 10.0),
    "vrrp.state": Pace((0.4, 7.0), None),
    "vs.bfd.down": Pace((0.15, 0.5)),
    "vs.bond.active_changed": Pace((0.01, 0.1), None),
    "vs.bond.all_down": Pace((0.01, 0.1)),
    "vs.bond.member_down": Pace((0.01, 0.1)),
    "vs.proc.exit": Pace((0.02, 0.5)),
}
CLEARS_SOONER = 0.3
"""An end is seen in this share of the time that a beginning takes."""
CLEARS = 3
"""How often an end is told: a condition missing in a source's next lists is the same word."""
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
) -> tuple[list[Word], float]:
    """Return all that is said, in no order, and when it ends; `standing` is broken all along."""
    end = max(fault.end for fault in faults) + AFTER_S
    stories = _stories(site, faults, standing)
    words = [word for sight in sorted(stories) for word in _told(sight, stories[sight], end, rng)]
    return words + [word for fault in faults for word in _booted(fault, faults, site)], end


def _stories(site: Site, faults: list[Fault], standing: Broken) -> dict[Sight, Story]:
    known: dict[tuple[Broken, Broken], Seen] = {}

    def seen(active: list[Fault], at: float) -> Seen:
        now, before = broken_at(active, at) | standing, broken_at(active, at - STALL_S) | standing
        if (now, before) not in known:
            known[now, before] = look(Physics(site, now, before))
        return known[now, before]

    stories: dict[Sight, Story] = {}
    raised: set[Sight] = set()
    for at in sorted({0.0, *(turn for fault in faults for turn in fault.turns())}):
        active = [fault for fault in faults if fault.start <= at < fault.end + STALL_S]
        now = seen(active, at)
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
    return stories


def _turn(story: Story, at: float, state: str) -> None:
    if not story.changes or story.changes[-1][1] != state:
        story.changes.append((at, state))


def _told(sight: Sight, story: Story, end: float, rng: random.Random) -> Iterator[Word]:
    pace, told = PACES[sight.signal], ""
    again = pace.again or 0.0
    for (since, state), (until, _) in pairwise([*story.changes, (end, "")]):
        if state == "raised":
            first = rng.uniform(*pace.first) if told != "raised" else rng.uniform(0.0, again)
            for at in _times(since + first, until, again, None, rng):
                yield Word(at, sight, "raised", story.causes_at(at))
                told = "raised"
        elif state == "cleared" and told == "raised" and sight.signal not in NEVER_ENDED:
            first = CLEARS_SOONER * rng.uniform(*pace.first)
            for at in _times(since + first, until, again, CLEARS, rng):
                yield Word(at, sight, "cleared")
                told = "cleared"


def _times(
    first: float, until: float, again: float, most: int | None, rng: random.Random
) -> Iterator[float]:
    at, count = first, 0
    while at < until and (most is None or count < most):
        yield at
        count += 1
        if not again:
            return
        at += again * rng.uniform(0.9, 1.1)


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

"""What can be seen of the world, by whom, how late; and how it gets to the log, or does not.

Each observer sees what physics lets it see from where it stands, tells of changes after the time
its mechanism takes (table d2 of the failure matrix), and repeats what stands. One that is dead or
cut off says nothing, and what it would have said is lost or spooled.
"""

from collections.abc import Iterator
from datetime import datetime, timedelta
from random import Random
from typing import NamedTuple

from schemas.base import from_microseconds
from schemas.inputs import Event, Input, Pulse, State
from tests.simulation.kernel import Kernel
from tests.simulation.log import Log
from tests.simulation.physics import Host, World
from tests.simulation.site import PLANES, POOL, SIDES

REPEAT_S = 10.0
LATENCY_S: dict[str, tuple[float, float]] = {
    "os.hb.lost": (0.6, 0.8),
    "peer.reach": (0.6, 0.8),
    "collector.lost": (1.0, 2.0),
    "vs.bfd.down": (0.15, 0.9),
    "tor.port.down": (0.01, 1.0),
    "nic.carrier.down": (0.001, 0.05),
    "vs.bond.member_down": (0.01, 0.1),
    "tor.lost": (1.0, 5.0),
    "hw.power.off": (1.0, 8.0),
    "hw.power.on": (1.0, 3.0),
    "bmc.lost": (3.0, 10.0),
    "os.panic": (1.0, 4.0),
    "os.kdump": (3.0, 8.0),
    "os.lockup": (10.0, 24.0),
    "lease.stale": (10.0, 40.0),
    "nova.svc.down": (60.0, 75.0),
    "pool.lost": (2.0, 12.0),
    "path.down": (1.0, 8.0),
    "path.all_down": (1.0, 10.0),
    "vm.event.stopped_failed": (0.02, 0.1),
    "vm.event.migrating": (0.02, 0.1),
    "user.vm.stop": (0.1, 1.0),
    "vm.hb.lost": (0.6, 3.0),
    "app.hb.lost": (0.6, 1.2),
    "app.health.bad": (0.5, 3.0),
    "vnf.degraded": (1.0, 5.0),
    "vnf.health.bad": (1.0, 5.0),
    "pdu.outlet.off": (1.0, 4.0),
}
"""signal → (soonest, latest) after it is so."""
GONE_S = (0.2, 2.0)
"""An observer notices this soon that something is no longer so."""


class Condition(NamedTuple):
    """One thing that one observer can tell."""

    entity: str
    signal: str
    source: str
    detail: str = ""
    """The plane, or the far end."""


class Network:
    """Between observers and the log: late, doubled, lost, out of order, or cut."""

    def __init__(self, kernel: Kernel, log: Log, rng: Random) -> None:
        self.kernel, self.log, self.rng = kernel, log, rng
        self.loss = rng.choice((0.0, 0.01, 0.05))
        self.doubles = rng.choice((0.0, 0.03, 0.1))
        self.late = rng.choice((0.0, 0.05, 0.2))
        self.cut_off: set[str] = set()
        """First words of sources whose messages do not get through, e.g. ``collector:h1``."""
        self.spools = False
        self._spool: list[Input] = []
        """What is kept for later, in the order in which it was told."""

    def send(self, source: str, given: Input) -> bool:
        """Bring one message to the log, or not; claim that it gets there."""
        if source.partition("/")[0] in self.cut_off:
            if self.spools:
                self._spool.append(given)
            return self.spools
        if self.rng.random() < self.loss:
            return False
        for _ in range(2 if self.rng.random() < self.doubles else 1):
            self._carry(given)
        return True

    def _carry(self, given: Input) -> None:
        slow = self.rng.random() < self.late
        delay_s = self.rng.uniform(0.03, 0.4) if slow else self.rng.uniform(0.005, 0.03)
        self.kernel.after(delay_s, lambda: self.log.append(given))

    def mend(self) -> None:
        """Let everybody through again; what was spooled follows, and is marked as such."""
        self.cut_off.clear()
        spooled, self._spool = self._spool, []
        delay_s = 0.1
        for given in spooled:
            delay_s += self.rng.uniform(0.0, 0.02)
            self.kernel.after(delay_s, lambda one=given: self.log.append(one, spooled=True))  # type: ignore[misc]


class Observers:
    """Everybody who looks at the world."""

    def __init__(self, world: World, network: Network, rng: Random) -> None:
        self.world, self.network, self.rng = world, network, rng
        self.kernel = world.kernel
        self.told: dict[Condition, int] = {}
        """What stands as told → since when, by the source."""
        self.skew_s: dict[str, float] = {}
        """Collector → how wrong its clock is."""
        self.lies: set[Condition] = set()
        self._pending: set[Condition] = set()
        self._ended: set[Condition] = set()
        self._said = 0
        self._seen_version = -1
        self._seen: dict[Condition, None] = {}
        self._pulses: dict[str, int] = {}

    def start(self) -> None:
        """Begin to look."""
        self.kernel.every(REPEAT_S, self._repeat)
        for host in self.world.hosts.values():
            self.kernel.after(self.rng.random(), lambda one=host: self._pulse(one))  # type: ignore[misc]

    # ---- seeing ------------------------------------------------------------------------

    def look(self) -> None:
        """Notice what has changed; each observer will tell when its mechanism has found out."""
        now = self._now()
        for condition in now:
            if condition not in self.told and condition not in self._pending:
                self._later(condition, LATENCY_S[condition.signal])
        for condition in self.told:
            if condition not in now and condition not in self._pending:
                self._later(condition, GONE_S)

    def _later(self, condition: Condition, span_s: tuple[float, float]) -> None:
        self._pending.add(condition)
        self.kernel.after(self.rng.uniform(*span_s), lambda: self._tell(condition))

    def _now(self) -> dict[Condition, None]:
        """Return all that is so, or is made up; worked out once for each state of the world."""
        if self._seen_version != self.world.version:
            self._seen_version = self.world.version
            self._seen = dict.fromkeys(conditions(self.world))
        return self._seen | dict.fromkeys(sorted(self.lies)) if self.lies else self._seen

    def _tell(self, condition: Condition) -> None:
        self._pending.discard(condition)
        if not can_tell(self.world, condition.source):
            return
        is_so = condition in self._now()
        if is_so and condition not in self.told:
            self.told[condition] = self.kernel.now_us
            self._say(condition, "raised")
        elif not is_so and condition in self.told:
            del self.told[condition]
            self._say(condition, "cleared")

    def _still_clear(self, condition: Condition) -> None:
        """Tell of an end again, unless it is no longer so or cannot be told."""
        if condition in self.told:
            self._ended.discard(condition)
        elif can_tell(self.world, condition.source):
            self._say(condition, "cleared")

    def _repeat(self) -> None:
        for condition in sorted(self.told):
            if can_tell(self.world, condition.source) and condition not in self._pending:
                self._say(condition, "raised")
        for condition in sorted(self._ended):
            self._still_clear(condition)
        self.look()

    # ---- telling -----------------------------------------------------------------------

    def _say(self, condition: Condition, state: State) -> None:
        self._said += 1
        attrs = {}
        if condition.detail:
            name = "plane" if condition.detail in PLANES else "from"
            attrs = {name: condition.detail}
        event = Event(
            event_id=f"{condition.source}#{self._said}",
            entity=condition.entity,
            signal=condition.signal,
            state=state,
            severity="major",
            at=self._clock(condition.source),
            source=condition.source,
            attrs=attrs,
        )
        # A producer knows what did not get through. An end that is lost would leave an alarm
        # standing for ever, so it is told again at the next round.
        sent = self.network.send(condition.source, event)
        self._ended.discard(condition)
        if state == "cleared" and not sent:
            self._ended.add(condition)

    def _clock(self, source: str) -> datetime:
        skew = timedelta(seconds=self.skew_s.get(source.partition("/")[0], 0.0))
        now = from_microseconds(self.kernel.now_us)
        return datetime.fromisoformat(now) + skew

    def say_wrongly(self, condition: Condition, taken_back_s: float) -> None:
        """Tell of something that is not so, and take it back, if the teller can speak at all."""
        if can_tell(self.world, condition.source):
            self.told[condition] = self.kernel.now_us
            self._say(condition, "raised")
            self._later(condition, (taken_back_s, taken_back_s))

    def _pulse(self, host: Host) -> None:
        if can_tell(self.world, f"collector:{host.name}"):
            self._pulses[host.name] = self._pulses.get(host.name, 0) + 1
            pulse = Pulse(
                collector=f"collector:{host.name}",
                seq=self._pulses[host.name],
                boot_id=boot_id(host),
                host=f"host:{host.name}",
                sources_ok=["link", "ovs", "libvirt"],
            )
            self.network.send(pulse.collector, pulse)
        self.kernel.after(1.0, lambda: self._pulse(host))


def boot_id(host: Host) -> str:
    """Return what a kernel calls this boot of itself."""
    return f"{host.name}-boot-{host.boots}"


def can_tell(world: World, source: str) -> bool:
    """Claim that an observer lives and can send; what stands elsewhere always can."""
    kind, _, rest = source.partition("/")[0].partition(":")
    if kind in ("collector", "peer"):
        host = world.hosts[rest]
        return (host.agent_ok or kind == "peer") and world.answers(host, "mgmt")
    if kind == "gnmi":
        return world.switch_works(rest)
    if kind == "redfish":
        return world.bmc_answers(world.hosts[rest])
    return True


def conditions(world: World) -> Iterator[Condition]:
    """Yield everything abnormal that some observer can see now."""
    for host in world.hosts.values():
        yield from _host_from_outside(world, host)
        yield from _power(world, host)
        yield from _cables(world, host)
        yield from _storage(world, host)
    yield from _shared(world)
    yield from _tasks(world)
    yield from _guests(world)


def _host_from_outside(world: World, host: Host) -> Iterator[Condition]:
    entity = f"host:{host.name}"
    for plane in PLANES:
        if not world.answers(host, plane):
            yield Condition(entity, "os.hb.lost", f"prober:{plane}", plane)
    for name in world.site.peers(host.name):
        peer = world.hosts[name]
        # A prober that is itself cut off on a plane does not speak of others on it.
        for plane in ("mgmt", "tenant"):
            speaks = world.answers(peer, plane, peer.rack)
            if speaks and not world.answers(host, plane, peer.rack):
                yield Condition(entity, "peer.reach", f"peer:{name}/{plane}", plane)
        speaks = world.answers(peer, "tenant", peer.rack)
        if speaks and not world.reaches(host, "tenant", peer.rack):
            yield Condition(f"vswitch:{host.name}", "vs.bfd.down", f"peer:{name}/ovs")
    if not (host.agent_ok and world.answers(host, "mgmt")):
        yield Condition(f"collector:{host.name}", "collector.lost", "hub:pulses")
        yield Condition(f"hypervisor:{host.name}", "nova.svc.down", "nova:api")


def _power(world: World, host: Host) -> Iterator[Condition]:
    entity = f"host:{host.name}"
    if not world.bmc_answers(host):
        yield Condition(f"bmc:{host.name}", "bmc.lost", "poller:bmc")
    elif not world.powered(host):
        yield Condition(entity, "hw.power.off", f"redfish:{host.name}")
    elif host.os != "up":
        yield Condition(entity, "hw.power.on", f"redfish:{host.name}")
    if host.os == "hung" and world.bmc_answers(host):
        yield Condition(entity, "os.lockup", f"redfish:{host.name}/sel")
    if host.os == "panicked":
        yield Condition(entity, "os.panic", "netconsole:1")
        yield Condition(entity, "os.kdump", "netconsole:1")


def _cables(world: World, host: Host) -> Iterator[Condition]:
    for card, side in enumerate(SIDES):
        switch = f"{host.rack}-{side}"
        link_ok = world.links[f"{host.name}/e{card}"]
        if not (link_ok and world.powered(host)) and world.switch_works(switch):
            yield Condition(f"switch_port:{switch}/{host.name}", "tor.port.down", f"gnmi:{switch}")
        if host.os == "up" and not world.carrier(host, card):
            source = f"collector:{host.name}"
            yield Condition(f"nic:{host.name}/e{card}", "nic.carrier.down", f"{source}/link")
            yield Condition(f"lag:{host.name}", "vs.bond.member_down", f"{source}/ovs")


def _storage(world: World, host: Host) -> Iterator[Condition]:
    if not (host.os == "up" and world.stores(host)):
        yield Condition(f"host:{host.name}", "lease.stale", "sanlock:pool", "storage")
    if host.os == "up" and not world.stores(host):
        source = f"collector:{host.name}/multipath"
        for path in ("p0", "p1"):
            yield Condition(f"path:{host.name}/{path}", "path.down", source)
        yield Condition(f"group:{host.name}/storage", "path.all_down", source)


def _shared(world: World) -> Iterator[Condition]:
    if not world.pool_ok:
        yield Condition(f"pool:{POOL}", "pool.lost", "array:p1")
    for switch in world.switches:
        if not world.switch_works(switch):
            yield Condition(f"switch:{switch}", "tor.lost", "poller:switch")
    for (rack, feed), is_on in world.feeds.items():
        if not is_on:
            yield Condition(f"power:{rack}/{feed}", "pdu.outlet.off", "poller:pdu")


def _tasks(world: World) -> Iterator[Condition]:
    """Yield what the cloud and libvirt tell of VMs that somebody works on."""
    for vm in sorted(world.stopped):
        yield Condition(f"vm:{vm}", "user.vm.stop", "nova:api")
    for vm, host in world.migrating.items():
        yield Condition(f"vm:{vm}", "vm.event.migrating", f"collector:{host}/libvirt")


def _guests(world: World) -> Iterator[Condition]:
    for copy in world.copies:
        if copy.state == "crashed" and world.hosts[copy.host].os == "up":
            source = f"collector:{copy.host}/libvirt"
            yield Condition(f"vm:{copy.vm}", "vm.event.stopped_failed", source)
    # What its user has stopped is as it should be.
    wanted = [vm for vm in world.site.app_of if vm not in world.stopped]
    lost = {vm for vm in wanted if not world.app_works(vm)}
    for vm in wanted:
        if vm in lost:
            yield from _guest(world, vm)
    for name, members in world.site.functions.items():
        if lost.intersection(members):
            yield Condition(f"vnf:{name}", "vnf.degraded", "vnfm:probe")
        if lost.issuperset(members):
            yield Condition(f"vnf:{name}", "vnf.health.bad", "vnfm:probe")


def _guest(world: World, vm: str) -> Iterator[Condition]:
    app = f"app:{world.site.app_of[vm]}"
    if world.serves(vm):
        yield Condition(app, "app.hb.lost", f"collector:{world.place[vm]}/guest")
    else:
        yield Condition(f"vm:{vm}", "vm.hb.lost", "vnfm:probe")
    yield Condition(app, "app.health.bad", "vnfm:probe")

"""What stops when something breaks: power, cables, switches, kernels, storage, and VMs that write.

Knows no rule, no signal and no engine. `World.settle` is called after every change; it keeps the
chain power → kernel → guest, and lets every live copy of a VM write to its disk.
Keeps the ground truth of I2: a disk is written by one copy, and never again by an older one.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from random import Random
from typing import Literal

from tests.simulation.kernel import Kernel
from tests.simulation.site import FEEDS, RACKS, SIDES, Site

Kernel_ = Literal["up", "hung", "panicked", "booting", "off"]
BOOT_S = (15.0, 25.0)
START_S = (2.0, 5.0)
DUMP_S = (20.0, 40.0)
ISOLATED = {"mgmt", "tenant"}
"""A host that is lost on these can neither be managed nor serve."""
MIGRATE_S = (3.0, 10.0)


@dataclass(slots=True)
class Host:
    """One server."""

    name: str
    rack: str
    supply_ok: bool = True
    outlet_on: bool = True
    soft_on: bool = True
    """What the BMC was last told."""
    os: Kernel_ = "up"
    guests_run: bool = True
    """Whether guests go on while the host's user space hangs."""
    boots: int = 0
    bmc_ok: bool = True
    blocked: bool = False
    """Storage refuses its clients."""
    agent_ok: bool = True
    """Its collector runs."""
    storage_ok: bool = True
    """Its own storage adapters work."""
    well_since_us: int | None = 0
    """Since when nothing has been wrong with the host itself; None: something is."""
    off_since_us: int | None = None


@dataclass(slots=True)
class Copy:
    """One process that runs a VM; a VM may, wrongly, have two."""

    vm: str
    number: int
    host: str
    state: Literal["starting", "running", "crashed", "stopped", "dead"] = "running"


@dataclass(slots=True)
class Disk:
    """The volume of a VM, and who wrote it last."""

    writer: int = 0
    writes: int = 0


@dataclass
class World:
    """All there is, physically."""

    site: Site
    kernel: Kernel
    rng: Random
    hosts: dict[str, Host] = field(default_factory=dict)
    feeds: dict[tuple[str, str], bool] = field(default_factory=dict)
    switches: dict[str, bool] = field(default_factory=dict)
    links: dict[str, bool] = field(default_factory=dict)
    cut_planes: set[tuple[str, str]] = field(default_factory=set)
    """(host, plane) that a network's configuration has lost."""
    cut_uplinks: set[tuple[str, str]] = field(default_factory=set)
    """(rack, plane): inside the rack frames still pass, nothing gets in or out."""
    pool_ok: bool = True
    copies: list[Copy] = field(default_factory=list)
    place: dict[str, str] = field(default_factory=dict)
    """VM → host, as the cloud's database has it."""
    stopped: set[str] = field(default_factory=set)
    """VMs that their users have stopped."""
    migrating: dict[str, str] = field(default_factory=dict)
    """VM → host that it was on when its live migration began."""
    crashed_apps: set[str] = field(default_factory=set)
    disks: dict[str, Disk] = field(default_factory=dict)
    autostart: set[str] = field(default_factory=set)
    version: int = 0
    """Counts what has settled: between two counts nothing changes."""
    on_double_write: Callable[[str, Copy, int], None] = lambda vm, copy, writer: None
    on_settled: Callable[[], None] = lambda: None

    def __post_init__(self) -> None:
        """Put everything in its place, in working order."""
        site = self.site
        self.hosts = {name: Host(name, site.rack_of[name]) for name in site.hosts}
        for host in self.hosts.values():
            host.well_since_us = self.kernel.now_us
        self.feeds = {(rack, feed): True for rack in RACKS for feed in FEEDS}
        self.switches = {f"{rack}-{side}": True for rack in RACKS for side in SIDES}
        self.links = {f"{host}/e{n}": True for host in site.hosts for n in range(len(SIDES))}
        self.place = dict(site.home)
        self.disks = {vm: Disk() for vm in site.home}
        self.autostart = set(site.autostart)
        for vm, name in site.home.items():
            self.new_copy(vm, name, "running")

    # ---- what works --------------------------------------------------------------------

    def rack_powered(self, rack: str) -> bool:
        """Claim that one feed of a rack is on."""
        first, second = FEEDS  # Asked half of all the time: no loop.
        return self.feeds[rack, first] or self.feeds[rack, second]

    def has_mains(self, host: Host) -> bool:
        """Claim that current reaches the supplies of a host."""
        return self.rack_powered(host.rack) and host.outlet_on and host.supply_ok

    def powered(self, host: Host) -> bool:
        """Claim that a host is on."""
        return self.has_mains(host) and host.soft_on

    def bmc_answers(self, host: Host) -> bool:
        """Claim that the management controller of a host can be asked."""
        if host.name in self.site.shared_supply and not host.supply_ok:
            return False
        return host.bmc_ok and self.rack_powered(host.rack) and host.outlet_on

    def switch_works(self, switch: str) -> bool:
        """Claim that a switch forwards."""
        return self.switches[switch] and self.rack_powered(switch.partition("-")[0])

    def carrier(self, host: Host, card: int) -> bool:
        """Claim that a cable, and what it ends in at the switch, works."""
        switch = f"{host.rack}-{SIDES[card]}"
        return self.links[f"{host.name}/e{card}"] and self.switch_works(switch)

    def reaches(self, host: Host, plane: str, rack: str = "") -> bool:
        """Claim that frames of a plane get to a host and back, from a rack or from outside all."""
        if self.cut_uplinks and not self._passes(plane, host.rack, rack):
            return False
        if host.os not in ("up", "hung") or (host.name, plane) in self.cut_planes:
            return False
        return (self.carrier(host, 0) or self.carrier(host, 1)) and self.powered(host)

    def _passes(self, plane: str, rack: str, other: str) -> bool:
        cut = self.cut_uplinks
        return rack == other or ((rack, plane) not in cut and (other, plane) not in cut)

    def stores(self, host: Host) -> bool:
        """Claim that what runs on a host can write to its volumes."""
        ok = self.pool_ok and host.storage_ok and not host.blocked
        return ok and self.reaches(host, "storage")

    def answers(self, host: Host, plane: str, rack: str = "") -> bool:
        """Claim that user space of a host answers on a plane, to a rack or to outside all."""
        return host.os == "up" and self.reaches(host, plane, rack)

    def writes(self, copy: Copy) -> bool:
        """Claim that a copy of a VM writes right now."""
        host = self.hosts[copy.host]
        runs = host.os == "up" or (host.os == "hung" and host.guests_run)
        return copy.state == "running" and runs and self.stores(host)

    def copies_of(self, vm: str) -> Iterator[Copy]:
        """Yield the copies of a VM that have not ended."""
        return (c for c in self.copies if c.vm == vm and c.state not in ("dead", "stopped"))

    def serves(self, vm: str) -> bool:
        """Claim that a VM works and can be reached."""
        return any(
            self.writes(copy) and self.answers(self.hosts[copy.host], "tenant")
            for copy in self.copies_of(vm)
        )

    def app_works(self, vm: str) -> bool:
        """Claim that the application of a VM works."""
        return self.serves(vm) and self.site.app_of[vm] not in self.crashed_apps

    # ---- what changes ------------------------------------------------------------------

    def new_copy(self, vm: str, host: str, state: Literal["starting", "running"]) -> Copy:
        """Start a VM on a host, whatever else runs: the world forbids nothing."""
        number = 1 + max((copy.number for copy in self.copies if copy.vm == vm), default=0)
        copy = Copy(vm, number, host, state)
        self.copies.append(copy)
        if state == "starting":
            self.kernel.after(self.rng.uniform(*START_S), lambda: self._started(copy))
        return copy

    def _started(self, copy: Copy) -> None:
        if copy.state != "starting":
            return
        if self.hosts[copy.host].os == "hung":  # It goes on when the host does.
            self.kernel.after(1.0, lambda: self._started(copy))
            return
        copy.state = "stopped" if copy.vm in self.stopped else "running"
        self.settle()

    def migrate(self, vm: str, to: str, done: Callable[[bool], None]) -> None:
        """Move a running VM; its old copy ends in the moment in which the new one takes over."""
        moving = next((c for c in self.copies_of(vm) if c.state == "running"), None)
        if moving is None or vm in self.migrating:
            done(False)  # noqa: FBT003 - what a callback is called with
            return
        self.migrating[vm] = moving.host

        def over() -> None:
            del self.migrating[vm]
            source, target = self.hosts[moving.host], self.hosts[to]
            well = all(h.os == "up" and self.stores(h) for h in (source, target))
            if well and self.writes(moving):
                moving.state, self.place[vm] = "dead", to
                self.new_copy(vm, to, "running")
            self.settle()
            done(self.place[vm] == to)

        self.kernel.after(self.rng.uniform(*MIGRATE_S), over)

    def settle(self) -> None:
        """Let a change take its course, then let all that lives write."""
        for host in self.hosts.values():
            self._settle_host(host)
        self.version += 1
        self.write()
        self.on_settled()

    def _settle_host(self, host: Host) -> None:
        if not self.powered(host):
            if host.os != "off":
                host.os = "off"
                host.off_since_us = self.kernel.now_us
                self.kill_guests(host)
        elif host.os == "off":
            self.boot(host)
        well = host.os == "up" and host.storage_ok and not host.blocked
        # A lost management or tenant network leaves a host that can be managed, or serves (C03,
        # C06): fencing it ends what works. One whose guests cannot write is another matter (C12b),
        # and so is one that nobody reaches, unless its whole rack is cut off (C04b).
        cards = range(len(SIDES))
        cabled = any(self.carrier(host, card) for card in cards)
        cabled = cabled or not any(self.switch_works(f"{host.rack}-{side}") for side in SIDES)
        own = {plane for name, plane in self.cut_planes if name == host.name}
        lost = own >= ISOLATED or self._cut_off_alone(host, own)
        if not (well and cabled and not lost and "storage" not in own):
            host.well_since_us = None
        elif host.well_since_us is None:
            host.well_since_us = self.kernel.now_us

    def _cut_off_alone(self, host: Host, own: set[str]) -> bool:
        """Claim that a host is cut off with its rack, and nothing shows that others are as well.

        No other host of the rack was in service when it began, or this one was not; what has come
        back since is seen by nobody.
        """
        shared = {plane for rack, plane in self.cut_uplinks if rack == host.rack}
        if not (own | shared) >= ISOLATED:
            return False
        near = (one for one in self.hosts.values() if one.rack == host.rack and one is not host)
        is_seen = host.well_since_us is not None and any(one.os == "up" for one in near)
        return not (shared >= ISOLATED and is_seen)

    def kill_guests(self, host: Host) -> None:
        """End every process on a host: its memory is gone."""
        for copy in self.copies:
            if copy.host == host.name and copy.state in ("running", "starting", "crashed"):
                copy.state = "dead"

    def release(self, host: Host) -> None:
        """Give a fenced host its power and storage back; what was moved away is ended first.

        Also what has ended where it was moved to: the cloud's record is of its source again, but
        its disk is no longer what this copy has in memory.
        """
        newest = {copy.vm: copy.number for copy in self.copies}
        for copy in (one for one in self.copies if one.host == host.name):
            if self.place[copy.vm] != host.name or copy.number < newest[copy.vm]:
                copy.state = "dead"
            elif copy.vm in self.stopped and host.os == "up":
                copy.state = "stopped"
        host.soft_on = host.outlet_on = True
        host.blocked = False

    def boot(self, host: Host) -> None:
        """Start the kernel of a host."""
        host.os = "booting"
        host.off_since_us = None
        self.kill_guests(host)
        boots = host.boots = host.boots + 1
        self.kernel.after(self.rng.uniform(*BOOT_S), lambda: self._booted(host, boots))

    def _booted(self, host: Host, boots: int) -> None:
        if host.os != "booting" or host.boots != boots:
            return
        host.os, host.agent_ok = "up", True
        if host.name in self.autostart:
            for vm, place in self.place.items():
                if place == host.name and vm not in self.stopped:
                    self.new_copy(vm, host.name, "starting")
        self.settle()

    def panic(self, host: Host) -> None:
        """Stop a kernel; it dumps, and boots again by itself."""
        host.os = "panicked"
        self.kill_guests(host)
        boots = host.boots

        def dumped() -> None:
            if host.os == "panicked" and host.boots == boots:
                self.boot(host)
                self.settle()

        self.kernel.after(self.rng.uniform(*DUMP_S), dumped)
        self.settle()

    def write(self) -> None:
        """Let every live copy append to its disk; a copy that was replaced must not."""
        for copy in self.copies:
            if not self.writes(copy):
                continue
            disk = self.disks[copy.vm]
            disk.writes += 1
            if copy.number < disk.writer:
                self.on_double_write(copy.vm, copy, disk.writer)
            disk.writer = max(disk.writer, copy.number)

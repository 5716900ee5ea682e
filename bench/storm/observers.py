"""Who notices which condition, how soon, and when they cannot see or cannot tell.

A collector that is cut off or on a dead host says nothing, and what it would have said is lost
(no spool). `peer.reach` and `vs.bfd.down` name the far end that does not answer; the reporter is
in `source`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from bench.storm.physics import MINUTE_S, Span, Spans, World, union
from bench.storm.site import CARDS, FEEDS, PATHS, PLANES, SIDES, Entity, Host, Site

Attribute = str | int | float | bool


@dataclass(frozen=True)
class Watch:
    """How one kind of monitoring reports one condition.

    Attributes:
        signal: `layer.name`.
        severity: Of the raised event; clears are `info`.
        first: Bounds of the delay from condition to report, seconds.
        again: Period of reminders while the condition lasts, seconds; 0 for none.
        chance: Probability that this monitoring works for one occurrence at all.
        clears: Whether the end is reported too.
    """

    signal: str
    severity: str
    first: Span
    again: float = 0.0
    chance: float = 1.0
    clears: bool = True


CARRIER_DOWN: Final = Watch("nic.carrier.down", "major", (0.001, 0.05), 15.0)  # C05
MEMBER_DOWN: Final = Watch("vs.bond.member_down", "major", (0.01, 0.05), 15.0)  # C05
ACTIVE_CHANGED: Final = Watch("vs.bond.active_changed", "info", (0.01, 0.05), clears=False)  # C05
PORT_DOWN: Final = Watch("tor.port.down", "major", (0.01, 1.0), 30.0)  # d2: on-change, 30 s poll
SWITCH_LOST: Final = Watch("tor.lost", "critical", (1.0, 5.0), 10.0)  # C04a
BFD_DOWN: Final = Watch("vs.bfd.down", "major", (0.15, 0.9), 10.0)  # C01, C08
PEER_REACH: Final = Watch("peer.reach", "major", (0.45, 0.8), 5.0)  # d2: 3 probes of 200 ms
HEARTBEAT_LOST: Final = Watch("os.hb.lost", "critical", (0.6, 1.0), 10.0)  # C01
COLLECTOR_LOST: Final = Watch("collector.lost", "major", (0.8, 1.2), 10.0)  # d2
POWER_OFF: Final = Watch("hw.power.off", "critical", (1.0, 10.0), 10.0, 0.95)  # C01
BMC_LOST: Final = Watch("bmc.lost", "major", (3.0, 10.0), 10.0)  # C01, C15
OUTLET_IDLE: Final = Watch("pdu.outlet.load0", "major", (1.0, 5.0), 30.0, 0.7)  # d2: on suspicion
OUTLET_OFF: Final = Watch("pdu.outlet.off", "critical", (1.0, 5.0), 30.0, 0.9)  # d2
PANIC: Final = Watch("os.panic", "critical", (1.0, 5.0), 0.0, 0.9)  # C02a: UDP, may be lost
KDUMP: Final = Watch("os.kdump", "major", (3.0, 30.0), 10.0, 0.7)  # d2: 1-30 s
LOCKUP: Final = Watch("os.lockup", "critical", (5.0, 25.0), 20.0, 0.5)  # C02b
HUNG_TASK: Final = Watch("os.hung_task", "critical", (10.0, 60.0), 30.0, 0.6)  # C02b: 10-300 s
BOOT_CHANGED: Final = Watch("os.boot_id.changed", "info", (0.2, 1.0), clears=False)  # d2: at boot
LEASE_STALE: Final = Watch("lease.stale", "major", (10.0, 60.0), 20.0, 0.9)  # C01
NOVA_DOWN: Final = Watch("nova.svc.down", "major", (60.0, 75.0), 10.0)  # d2
POOL_LOST: Final = Watch("pool.lost", "critical", (2.0, 15.0), 10.0, 0.8)  # C12c: the array's view
PATH_DOWN: Final = Watch("path.down", "major", (1.0, 10.0), 15.0)  # d2: 1-120 s
ALL_PATHS_DOWN: Final = Watch("path.all_down", "critical", (1.5, 12.0), 15.0)  # C12b
IO_ERROR: Final = Watch("vm.event.ioerror", "critical", (2.0, 30.0), 0.0, 0.8)  # C12b
VSWITCH_EXIT: Final = Watch("vs.proc.exit", "critical", (0.05, 0.5), 5.0)  # C08
LIBVIRT_DOWN: Final = Watch("hv.libvirt.down", "critical", (0.5, 5.0), 5.0)  # C07
AGENT_LOST: Final = Watch("vm.qga.lost", "minor", (20.0, 40.0), 10.0, 0.6)  # d2: 3 pings of 10 s
VM_FAILED: Final = Watch("vm.event.stopped_failed", "critical", (0.01, 0.1))  # C09
VM_WATCHDOG: Final = Watch("vm.event.watchdog", "critical", (15.0, 30.0), 0.0, 0.7)  # C10
VM_HEARTBEAT: Final = Watch("vm.hb.lost", "critical", (1.2, 2.0), 5.0)  # d2: 3 x 400 ms
VM_PROBE: Final = Watch("vm.hb.lost", "critical", (3.0, 6.0), 5.0)  # VNFM, 3 network polls
APP_HEARTBEAT: Final = Watch("app.hb.lost", "critical", (0.3, 1.0), 5.0)  # C11
APP_PROBE: Final = Watch("app.health.bad", "critical", (0.5, 4.0), 5.0)  # C11, seen from afar
APP_STARVED: Final = Watch("app.health.bad", "major", (1.0, 5.0), 5.0, 0.9)  # call time-outs
VNF_DEGRADED: Final = Watch("vnf.degraded", "major", (3.0, 8.0), 10.0)  # VNFM
VNF_DOWN: Final = Watch("vnf.health.bad", "critical", (3.0, 8.0), 10.0)  # VNFM
SPURIOUS: Final[dict[str, Watch]] = {
    "nic": CARRIER_DOWN,
    "switch_port": PORT_DOWN,
    "host": HEARTBEAT_LOST,
    "bmc": BMC_LOST,
    "vswitch": BFD_DOWN,
    "hypervisor": LIBVIRT_DOWN,
    "path": PATH_DOWN,
    "vm": VM_PROBE,
    "app": APP_PROBE,
}
"""The alarm that monitoring falsely raises about each kind; other kinds have none."""


@dataclass(frozen=True)
class Sighting:
    """One observer watching one condition of one entity, over the whole recording.

    Attributes:
        watch: How it reports.
        entity: What it reports about.
        source: The observer.
        when: The times the condition holds.
        blind: The times the observer cannot see or cannot tell.
        attrs: Attributes of each of its events.
    """

    watch: Watch
    entity: Entity
    source: str
    when: Spans
    blind: Spans = ()
    attrs: dict[str, Attribute] = field(default_factory=dict)


def sightings(site: Site, world: World) -> Iterator[Sighting]:
    """Every observer with something to see, in an order that depends on the site alone."""
    everything = _all_sightings(site, world)
    return (sighting for sighting in everything if sighting.when)


def _all_sightings(site: Site, world: World) -> Iterator[Sighting]:
    """All observers, also those with nothing to see."""
    for rack in site.racks:
        yield from _rack_sightings(site, world, rack)
    for name in dict.fromkeys(site.rack_site.values()):
        pool, array = ("pool", f"{name}/vms"), f"collector:storage-{name}"
        yield Sighting(POOL_LOST, pool, array, world.when("down", *pool))
    for host in site.hosts.values():
        for part in (_power_sightings, _reach_sightings, _system_sightings, _link_sightings):
            yield from part(world, host)
        yield from _switch_port_sightings(site, world, host)
        yield from _storage_sightings(world, host)
    for vm, name in site.vm_host.items():
        yield from _vm_sightings(world, vm, site.hosts[name])
    for app in site.app_vm:
        yield from _app_sightings(site, world, app)
    for vnf in site.vnf_vms:
        yield from _vnf_sightings(site, world, vnf)


def _rack_sightings(site: Site, world: World, rack: str) -> Iterator[Sighting]:
    """The building's control system sees feeds, a central poller sees switches."""
    place = site.rack_site[rack]
    for feed in FEEDS:
        off = world.when("off", "power", f"{rack}/{feed}")
        source, attrs = f"collector:facility-{place}", {"outlet": "all"}
        yield Sighting(OUTLET_OFF, ("power", f"{rack}/{feed}"), source, off, (), {**attrs})
    for side in SIDES:
        switch = ("switch", f"sw-{rack}-{side}")
        lost = world.when("down", *switch)
        yield Sighting(SWITCH_LOST, switch, f"collector:gnmi-{place}", lost)


def _power_sightings(world: World, host: Host) -> Iterator[Sighting]:
    """BMC poller and PDU poller; a BMC without power tells nothing about its host."""
    name, entity = host.name, ("host", host.name)
    redfish, facility = f"collector:redfish-{host.site}", f"collector:facility-{host.site}"
    off, bmc_off = world.when("off", "host", name), world.when("off", "bmc", name)
    rack_off = world.when("off", "rack", host.rack)
    yield Sighting(POWER_OFF, entity, redfish, off, bmc_off)
    yield Sighting(BMC_LOST, ("bmc", name), redfish, bmc_off)
    for feed in FEEDS:
        outlet = ("power", f"{host.rack}/{feed}")
        yield Sighting(OUTLET_IDLE, outlet, facility, off, rack_off, {"outlet": name})


def _reach_sightings(world: World, host: Host) -> Iterator[Sighting]:
    """Peers, a central prober and the message bus notice that a host does not answer."""
    name, entity = host.name, ("host", host.name)
    mute, no_bfd = world.when("mute", "host", name), world.when("no_bfd", "vswitch", name)
    for peer in host.peers:
        deaf = world.when("mute", "host", peer)
        for plane in PLANES:
            attrs: dict[str, Attribute] = {"from": peer, "to": name, "plane": plane, "ok": False}
            yield Sighting(PEER_REACH, entity, f"peer:{peer}", mute, deaf, attrs)
        blind = union(deaf, world.when("no_bfd", "vswitch", peer))
        far_end, source = ("vswitch", name), f"collector:{peer}/ovs"
        yield Sighting(BFD_DOWN, far_end, source, no_bfd, blind, {"peer": peer})
    for plane in PLANES:
        prober = f"collector:probe-{host.site}"
        yield Sighting(HEARTBEAT_LOST, entity, prober, mute, (), {"plane": plane})
    yield Sighting(COLLECTOR_LOST, ("collector", name), f"collector:bus-{host.site}", mute)


def _system_sightings(world: World, host: Host) -> Iterator[Sighting]:
    """Panic and hang messages, daemons of the host, storage lease and compute service."""
    name, entity, place = host.name, ("host", host.name), host.site
    panic, hang = world.when("panic", "host", name), world.when("hang", "host", name)
    mute, isolated = world.when("mute", "host", name), world.when("isolated", "host", name)
    halted = world.when("halted", "host", name)
    libvirt = world.when("down", "hypervisor", name)
    no_storage = world.when("down", "group", f"{name}/storage")
    console, redfish = f"collector:netconsole-{place}", f"collector:redfish-{place}"
    yield Sighting(PANIC, entity, console, panic, isolated)
    yield Sighting(KDUMP, entity, console, panic, isolated)
    yield Sighting(LOCKUP, entity, console, hang, isolated)
    yield Sighting(HUNG_TASK, entity, redfish, hang, world.when("off", "bmc", name))
    booted = tuple((end, end + MINUTE_S) for _, end in halted)
    yield Sighting(BOOT_CHANGED, entity, f"collector:{name}/os", booted, mute)
    vswitch = world.when("down", "vswitch", name)
    yield Sighting(VSWITCH_EXIT, ("vswitch", name), f"collector:{name}/ovs", vswitch, mute)
    yield Sighting(LIBVIRT_DOWN, ("hypervisor", name), f"collector:{name}/libvirt", libvirt, mute)
    storage, stale = f"collector:storage-{place}", union(mute, no_storage)
    yield Sighting(LEASE_STALE, entity, storage, stale, world.when("down", "pool", f"{place}/vms"))
    service = union(mute, libvirt)
    yield Sighting(NOVA_DOWN, ("hypervisor", name), f"collector:nova-{place}", service)


def _link_sightings(world: World, host: Host) -> Iterator[Sighting]:
    """The host's own view of its cards and its bond."""
    name, mute = host.name, world.when("mute", "host", host.name)
    lag, bond = ("lag", f"{name}/bond0"), f"collector:{name}/ovs"
    vswitch = union(mute, world.when("down", "vswitch", name))
    for card, other in zip(CARDS, reversed(CARDS), strict=True):
        dark = world.when("dark", "nic", f"{name}/{card}")
        nic = ("nic", f"{name}/{card}")
        yield Sighting(CARRIER_DOWN, nic, f"collector:{name}/link", dark, mute, {"admin": "up"})
        yield Sighting(MEMBER_DOWN, lag, bond, dark, vswitch, {"member": card})
        if card == CARDS[0]:
            yield Sighting(ACTIVE_CHANGED, lag, bond, dark, vswitch, {"active": other})


def _switch_port_sightings(site: Site, world: World, host: Host) -> Iterator[Sighting]:
    """The switches' view of the same cables; a dead switch says nothing about its ports."""
    index = site.racks[host.rack].index(host.name) + 1
    for card, side in zip(CARDS, SIDES, strict=True):
        switch = f"sw-{host.rack}-{side}"
        dark = world.when("dark", "nic", f"{host.name}/{card}")
        port, lost = ("switch_port", f"{switch}/{index:02d}"), world.when("down", "switch", switch)
        yield Sighting(PORT_DOWN, port, f"collector:{switch}/gnmi", dark, lost)


def _storage_sightings(world: World, host: Host) -> Iterator[Sighting]:
    """The host's multipath daemon."""
    name, mute = host.name, world.when("mute", "host", host.name)
    source = f"collector:{name}/multipath"
    for path in PATHS:
        down = world.when("down", "path", f"{name}/{path}")
        yield Sighting(PATH_DOWN, ("path", f"{name}/{path}"), source, down, mute)
    group = ("group", f"{name}/storage")
    yield Sighting(ALL_PATHS_DOWN, group, source, world.when("down", *group), mute)


def _vm_sightings(world: World, vm: str, host: Host) -> Iterator[Sighting]:
    """Libvirt's callbacks and the virtio-serial heartbeat on the host, the VNFM from afar."""
    name, entity = host.name, ("vm", vm)
    mute, libvirt = world.when("mute", "host", name), world.when("down", "hypervisor", name)
    blind, callbacks = union(mute, libvirt), f"collector:{name}/libvirt"
    crashed, hung = world.when("down", "vm", vm), world.when("hung", "vm", vm)
    dead, no_disk = world.when("dead", "vm", vm), world.when("down", "group", f"{name}/storage")
    unreachable = world.when("unreachable", "vm", vm)
    yield Sighting(VM_FAILED, entity, callbacks, crashed, blind)
    yield Sighting(VM_WATCHDOG, entity, callbacks, hung, blind)
    yield Sighting(IO_ERROR, entity, callbacks, no_disk, blind)
    guest = f"collector:{name}/guest"
    yield Sighting(VM_HEARTBEAT, entity, guest, dead, mute, {"via": "virtio-serial"})
    silent_agent = union(dead, libvirt)
    yield Sighting(AGENT_LOST, entity, callbacks, silent_agent, mute)
    manager = f"collector:vnfm-{host.site}"
    yield Sighting(VM_PROBE, entity, manager, unreachable, (), {"via": "network"})


def _app_sightings(site: Site, world: World, app: str) -> Iterator[Sighting]:
    """The heartbeat through the host, the VNFM's probe, and what the app says of its needs."""
    vm, entity = site.app_vm[app], ("app", app)
    host = site.hosts[site.vm_host[vm]]
    mute, dead = world.when("mute", "host", host.name), world.when("dead", "app", app)
    guest, manager = f"collector:{host.name}/guest", f"collector:vnfm-{host.site}"
    unreachable = world.when("unreachable", "app", app)
    yield Sighting(APP_HEARTBEAT, entity, guest, dead, mute)
    yield Sighting(APP_PROBE, entity, manager, unreachable, (), {"probe": "http"})
    speechless = union(mute, dead)
    for need in site.app_needs[app]:
        gone = union(world.when("unreachable", "app", need), world.when("starved", "app", need))
        yield Sighting(APP_STARVED, entity, guest, gone, speechless, {"dependency": need})


def _vnf_sightings(site: Site, world: World, vnf: str) -> Iterator[Sighting]:
    """The VNF manager counts the members of a VNF."""
    manager = f"collector:vnfm-{site.hosts[site.vm_host[site.vnf_vms[vnf][0]]].site}"
    for watch, condition in ((VNF_DEGRADED, "degraded"), (VNF_DOWN, "down")):
        yield Sighting(watch, ("vnf", vnf), manager, world.when(condition, "vnf", vnf))


def watches() -> list[Watch]:
    """All watches of this module."""
    return [value for value in globals().values() if isinstance(value, Watch)]

"""Who sees what: each observer looks at the physics through the networks that still work.

A `Sight` is a condition that its observer holds for raised. An observer that cannot look, or cannot
tell, says nothing: neither that it goes on nor that it has ended.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

from bench.second.physics import Physics
from bench.second.world import PLANES, Host, Vm, port_of


class Sight(NamedTuple):
    """A condition in somebody's eye."""

    source: str
    signal: str
    entity: str
    eye: str = ""
    """What must be able to see and to tell; where it is blind, the condition is unknown."""
    plane: str = ""


class Seen(NamedTuple):
    """All conditions held for raised at one moment, and the eyes that see nothing."""

    raised: frozenset[Sight]
    blind: frozenset[str]


def look(physics: Physics) -> Seen:
    """Return what all observers together see at one moment."""
    blind = frozenset(_blind(physics))
    dead = {f"collector:{name}" for what, name in physics.broken if what == "observer"}
    raised = (sight for observer in OBSERVERS for sight in observer(physics))
    told = (one for one in raised if one.eye not in blind and one.source not in dead)
    return Seen(frozenset(told), blind)


def _blind(now: Physics) -> Iterator[str]:
    site = now.site
    for host in site.hosts.values():
        name, reports = host.name, now.reports(host.name)
        if not reports:
            yield f"local/{name}"
        if not (reports and now.whole("libvirt", name)):
            yield f"libvirt/{name}"
        if not (reports and now.whole("vswitch", name)):
            yield f"tunnels/{name}"
        if not now.bmc_answers(host):
            yield f"bmc/{name}"
    yield from (f"ports/{switch}" for switch in _unmanaged(now))
    pools = {host.pool for host in site.hosts.values()}
    yield from (f"disk/{pool}" for pool in pools if not now.whole("pool", pool))
    yield from _blind_probers(now)


def _blind_probers(now: Physics) -> Iterator[str]:
    """A prober that reaches nobody knows nothing; two of a rack make its word on a heartbeat."""
    sound = _sound(now)
    for prober in now.site.hosts.values():
        for plane in PLANES:
            if not (now.reports(prober.name) and _reached(now, prober, plane)):
                yield f"reach/{prober.name}/{plane}"
    for name, watch in now.site.probers.items():
        for rack, probers in watch.items():
            for plane in PLANES:
                if not all((prober, plane) in sound for prober in probers):
                    yield f"beats/{rack}/{name}/{plane}"


def _reached(now: Physics, prober: Host, plane: str) -> list[Host]:
    """Return the targets of a prober that answer it."""
    targets = (now.site.hosts[name] for name in now.site.targets[prober.name])
    return [host for host in targets if now.answers(prober, host, plane)]


def _sound(now: Physics) -> set[tuple[str, str]]:
    """Return (prober, plane) of those that reach somebody outside their own rack."""
    return {
        (prober.name, plane)
        for prober in now.site.hosts.values()
        if now.reports(prober.name)
        for plane in PLANES
        if any(host.rack != prober.rack for host in _reached(now, prober, plane))
    }


def _unmanaged(now: Physics) -> Iterator[str]:
    """Yield the switches that do not answer; ToRs are managed in band, so through their uplinks."""
    for rack in now.site.racks.values():
        cut = rack.tors if not now.whole("uplink", rack.name) else ()
        for switch in (*rack.tors, rack.mgmt):
            if switch not in now.switches or switch in cut:
                yield switch


# ---- on the host -----------------------------------------------------------------------------


def _local(now: Physics) -> Iterator[Sight]:
    """What the collector of a host reads from its kernel, OVSDB, libvirt and multipath."""
    for host in now.site.hosts.values():
        if now.reports(host.name):
            yield from _links(now, host)
            yield from _bonds(now, host)
            yield from _processes(now, host)
            yield from _disks(now, host)
            yield from _degrading(now, host)
            for vm in now.site.vms_on(host.name):
                yield from _libvirt(now, vm)


def _links(now: Physics, host: Host) -> Iterator[Sight]:
    eye, source = f"local/{host.name}", f"collector:{host.name}/link"
    down = [card for card in host.cards if card not in now.carrier]
    for card in down:
        yield Sight(source, "nic.carrier.down", f"nic:{card}", eye)
    for vm in now.site.vms_on(host.name) if down else ():
        for vf in vm.vfs:
            if vf.partition(".")[0] in down:
                yield Sight(source, "vf.link.down", f"vf:{vf}", eye)


def _bonds(now: Physics, host: Host) -> Iterator[Sight]:
    eye, source = f"local/{host.name}", f"collector:{host.name}/ovs"
    for bond, cards in host.bonds.items():
        lost = [card for card in cards if card not in now.carrier]
        if lost:
            yield Sight(source, "vs.bond.member_down", f"lag:{bond}", eye)
        if len(lost) == len(cards):
            yield Sight(source, "vs.bond.all_down", f"lag:{bond}", eye)
        elif cards[0] in lost:
            yield Sight(source, "vs.bond.active_changed", f"lag:{bond}", eye)


def _processes(now: Physics, host: Host) -> Iterator[Sight]:
    eye, source = f"local/{host.name}", f"collector:{host.name}/proc"
    if not now.whole("libvirt", host.name):
        yield Sight(source, "hv.libvirt.down", f"hypervisor:{host.name}", eye)
    if not now.whole("vswitch", host.name):
        yield Sight(source, "vs.proc.exit", f"vswitch:{host.name}", eye)
    for agent in now.site.agents.values():
        if agent.host == host.name and not now.whole("agent", agent.name):
            yield Sight(source, "agent.proc.exit", f"agent:{agent.name}", eye)


def _disks(now: Physics, host: Host) -> Iterator[Sight]:
    eye, source = f"local/{host.name}", f"collector:{host.name}/multipath"
    for path in host.paths:
        if not now.path_works(host, path):
            yield Sight(source, "path.down", f"path:{path}", eye)
    if host.name not in now.stored:
        yield Sight(source, "path.all_down", f"group:{host.name}/storage", eye)
        me = f"host:{host.name}"
        yield Sight(f"collector:{host.name}/proof", "os.proof.lost", me, eye)
        yield Sight(f"collector:{host.name}/kernel", "os.hung_task", me, eye)


def _degrading(now: Physics, host: Host) -> Iterator[Sight]:
    eye, source, me = f"local/{host.name}", f"collector:{host.name}/ras", f"host:{host.name}"
    if not now.whole("memory", host.name):
        yield Sight(source, "hw.mem.ce_storm", me, eye)
    if not now.whole("disk", host.name):
        yield Sight(source, "hw.disk.smart_prefail", me, eye)


def _libvirt(now: Physics, vm: Vm) -> Iterator[Sight]:
    eye, source, me = f"libvirt/{vm.host}", f"collector:{vm.host}/libvirt", f"vm:{vm.name}"
    if not now.process(vm):
        yield Sight(source, "vm.event.stopped_failed", me, eye)
        return
    if not now.whole("guest", vm.name):
        told = "vm.event.watchdog" if vm.watchdog else "vm.event.panicked"
        if vm.watchdog or not now.whole("guest-kernel", vm.name):
            yield Sight(source, told, me, eye)
    if vm.host in now.stalled:
        yield Sight(source, "vm.event.ioerror", me, eye)
        if vm.pauses:
            yield Sight(source, "vm.event.paused", me, eye)
    if not now.runs(vm):
        yield Sight(source, "vm.qga.lost", me, eye)


def _tunnels(now: Physics) -> Iterator[Sight]:
    """The far ends of a tunnel, also told by one who is himself cut off: he cannot know."""
    for host in now.site.hosts.values():
        up = host.name in now.kernel and now.whole("vswitch", host.name)
        for peer in now.site.peers[host.name]:
            if not (up and now.reaches(now.site.hosts[peer], host, "tenant")):
                source, eye = f"collector:{peer}/ovs", f"tunnels/{peer}"
                yield Sight(source, "vs.bfd.down", f"vswitch:{host.name}", eye, "tenant")


def _routers(now: Physics) -> Iterator[Sight]:
    for agent in now.site.agents.values():
        if agent.router and not now.agent_forwards(agent):
            source, eye = f"collector:{agent.standby}/vrrp", f"local/{agent.standby}"
            yield Sight(source, "vrrp.state", f"router:{agent.router}", eye)


# ---- probes of hosts by hosts ----------------------------------------------------------------


def _reach(now: Physics) -> Iterator[Sight]:
    """Each prober tells whom it misses."""
    for prober in now.site.hosts.values():
        for plane in PLANES:
            reached = {host.name for host in _reached(now, prober, plane)}
            for name in now.site.targets[prober.name]:
                if name not in reached:
                    source, eye = f"collector:{prober.name}/reach", f"reach/{prober.name}/{plane}"
                    yield Sight(source, "peer.reach", f"host:{name}", eye, plane)


def _heartbeats(now: Physics) -> Iterator[Sight]:
    """The probers of another rack together: neither of the two is answered."""
    hosts = now.site.hosts
    for name, watch in now.site.probers.items():
        host = hosts[name]
        for rack, probers in watch.items():
            for plane in PLANES if rack != host.rack else ():
                if not any(now.answers(hosts[prober], host, plane) for prober in probers):
                    source, eye = f"collector:probe-{rack}", f"beats/{rack}/{name}/{plane}"
                    yield Sight(source, "os.hb.lost", f"host:{name}", eye, plane)


# ---- in the control plane --------------------------------------------------------------------


def _redfish(now: Physics) -> Iterator[Sight]:
    source = "collector:redfish"
    for host in now.site.hosts.values():
        eye, me = f"bmc/{host.name}", f"host:{host.name}"
        if not now.bmc_answers(host):
            yield Sight(source, "bmc.lost", f"bmc:{host.name}", "redfish")
            continue
        feeds = now.site.racks[host.rack].feeds
        if not all(now.whole("feed", feed) for feed in feeds):
            yield Sight(source, "hw.psu.lost", me, eye)
        if host.name not in now.powered:
            yield Sight(source, "hw.power.off", me, eye)
        elif host.name not in now.user or now.isolated(host):
            yield Sight(source, "hw.power.on", me, eye)
        yield from _read_by_bmc(now, host.name)


def _read_by_bmc(now: Physics, name: str) -> Iterator[Sight]:
    tells = {
        "warm": "hw.thermal.warn",
        "hot": "hw.thermal.crit",
        "tripped": "hw.thermal.trip",
        "user": "os.lockup",
    }
    for what, signal in tells.items():
        if not now.whole(what, name):
            yield Sight("collector:redfish", signal, f"host:{name}", f"bmc/{name}")


def _consoles(now: Physics) -> Iterator[Sight]:
    """What a dying kernel sends over UDP on the management plane."""
    for what, signal in (("panic-told", "os.panic"), ("dumping", "os.kdump")):
        for broken, name in now.broken:
            if broken == what and now.routed(now.site.hosts[name], "mgmt"):
                yield Sight("netconsole", signal, f"host:{name}")


def _switches(now: Physics) -> Iterator[Sight]:
    source = "collector:gnmi"
    for switch in _unmanaged(now):
        yield Sight(source, "tor.lost", f"switch:{switch}", "gnmi")
    for host in now.site.hosts.values():
        for card, switch in host.cards.items():
            if card not in now.carrier:
                port = f"switch_port:{port_of(card, switch)}"
                yield Sight(source, "tor.port.down", port, f"ports/{switch}")


def _power(now: Physics) -> Iterator[Sight]:
    for rack in now.site.racks.values():
        for feed in rack.feeds:
            if not now.whole("feed", feed):
                yield Sight("collector:pdu", "pdu.outlet.off", f"power:{feed}", "pdu")


def _storage(now: Physics) -> Iterator[Sight]:
    for pool in sorted({host.pool for host in now.site.hosts.values()}):
        if not now.whole("pool", pool):
            yield Sight("collector:array", "pool.lost", f"pool:{pool}", "array")
    for host in now.site.hosts.values():
        if not (host.name in now.user and host.name in now.stored):
            eye, me = f"disk/{host.pool}", f"host:{host.name}"
            yield Sight("collector:sanlock", "lease.stale", me, eye)
            yield Sight("collector:sanlock", "os.proof.lost", me, eye)


def _control(now: Physics) -> Iterator[Sight]:
    for name, host in now.site.hosts.items():
        alive = name in now.user and now.whole("libvirt", name)
        if not (alive and now.routed(host, "mgmt")):
            yield Sight("collector:nova", "nova.svc.down", f"hypervisor:{name}", "nova")
        if not now.reports(name):
            yield Sight("correlator:pulses", "collector.lost", f"collector:{name}")
    for agent in now.site.agents.values():
        if not now.agent_reports(agent):
            yield Sight("collector:neutron", "agent.lost", f"agent:{agent.name}", "neutron")
    for what, name in now.broken:
        if what == "observer" and name not in now.site.hosts:
            yield Sight("correlator:pulses", "collector.lost", f"collector:{name}")


def _guests(now: Physics) -> Iterator[Sight]:
    """VNF manager and guest probe ask over the tenant network, from outside."""
    source = "collector:vnfm"
    for vm in now.site.vms.values():
        if not now.reached(vm):
            yield Sight("collector:guest-probe", "vm.hb.lost", f"vm:{vm.name}", "guest-probe")
    for app in now.site.apps.values():
        if not now.serves(app):
            yield Sight(source, "app.hb.lost", f"app:{app.name}", "vnfm")
        if app.name not in now.healthy:
            yield Sight(source, "app.health.bad", f"app:{app.name}", "vnfm")


def _functions(now: Physics) -> Iterator[Sight]:
    """A member is lost when its VM does not answer; the function, when too few members serve."""
    source = "collector:vnfm"
    ill = {app.vm for app in now.site.apps.values() if not now.serves(app)}
    for vnf in now.site.vnfs.values():
        me, lost = f"vnf:{vnf.name}", ill.intersection(vnf.vms)
        if any(not now.reached(now.site.vms[vm]) for vm in vnf.vms):
            yield Sight(source, "vnf.degraded", me, "vnfm")
        if lost and (not vnf.redundant or len(lost) == len(vnf.vms)):
            yield Sight(source, "vnf.health.bad", me, "vnfm")


OBSERVERS: tuple[Callable[[Physics], Iterator[Sight]], ...] = (
    _local,
    _tunnels,
    _routers,
    _reach,
    _heartbeats,
    _redfish,
    _consoles,
    _switches,
    _power,
    _storage,
    _control,
    _guests,
    _functions,
)

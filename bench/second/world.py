"""A site as its builder knows it, and the inventory that it gives to Firstfault.

Three styles of rack: all planes on one bond; management apart; management and storage apart. Each
rack has two ToRs and a switch for management and BMCs, and one feed or two.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

PLANES = ("mgmt", "tenant", "storage")
STYLES = ("converged", "mgmt_apart", "all_apart")
RACKS, HOSTS_PER_RACK, VMS_PER_HOST, POOLS = 6, 12, 5, 3
TIERS, SIZES = 3, (2, 3)
REDUNDANT, SRIOV, HALF = 0.7, 0.6, 0.5
"""Share of the network functions; of the VMs on hosts with SR-IOV; of VMs with either policy."""
SERVICES = ("redfish", "gnmi", "pdu", "array", "sanlock", "nova", "neutron", "vnfm", "guest-probe")
"""Observers in the control plane, each a collector of its own; their hosts never fail here."""


@dataclass(frozen=True, slots=True)
class Rack:
    """A rack: its feeds, its two ToRs and the switch for management and BMCs."""

    name: str
    style: str
    feeds: tuple[str, ...]
    tors: tuple[str, str]
    mgmt: str


@dataclass(frozen=True, slots=True)
class Host:
    """A server, its cards and what each plane uses."""

    name: str
    rack: str
    pool: str
    cards: dict[str, str]
    """card → switch at the other end of its cable"""
    bonds: dict[str, tuple[str, ...]]
    """bond → its cards, the preferred one first"""
    planes: dict[str, tuple[str, ...]]
    """plane → cards of which one is enough"""
    paths: tuple[str, str]
    ports: tuple[str, ...] = ()
    """SR-IOV cards, in no bond of the host"""

    def bond_of(self, plane: str) -> str | None:
        """Return the bond that a plane uses, if any."""
        return next((b for b, cards in self.bonds.items() if cards == self.planes[plane]), None)


@dataclass(frozen=True, slots=True)
class Vm:
    """A virtual machine; `pauses` says what its disk policy does on an error."""

    name: str
    host: str
    vfs: tuple[str, ...]
    pauses: bool
    watchdog: bool


@dataclass(frozen=True, slots=True)
class App:
    """An application and what it calls."""

    name: str
    vm: str
    calls: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Vnf:
    """A network function: where it is redundant, one member is enough."""

    name: str
    vms: tuple[str, ...]
    redundant: bool


@dataclass(frozen=True, slots=True)
class Agent:
    """A network agent, the router it holds active and the host that would take over."""

    name: str
    host: str
    router: str | None
    standby: str


@dataclass(slots=True)
class Site:
    """Everything that stands in one site."""

    racks: dict[str, Rack] = field(default_factory=dict)
    hosts: dict[str, Host] = field(default_factory=dict)
    vms: dict[str, Vm] = field(default_factory=dict)
    apps: dict[str, App] = field(default_factory=dict)
    """Callees before their callers."""
    vnfs: dict[str, Vnf] = field(default_factory=dict)
    agents: dict[str, Agent] = field(default_factory=dict)
    probers: dict[str, dict[str, tuple[str, ...]]] = field(default_factory=dict)
    """host → rack → hosts of that rack that probe it"""
    peers: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """host → hosts whose tunnels end at it and watch it"""
    targets: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """host → hosts it probes"""
    guests: dict[str, list[Vm]] = field(default_factory=dict)
    """host → the VMs that run on it"""

    def vms_on(self, host: str) -> list[Vm]:
        """Return the VMs that run on a host."""
        return self.guests.get(host, [])


def port_of(card: str, switch: str) -> str:
    """Return the name of the switch port at the far end of a card's cable.

    >>> port_of("n1-02/e0", "t1a")
    't1a/n1-02.e0'
    """
    return f"{switch}/{card.replace('/', '.')}"


def build(seed: int) -> Site:
    """Return a site of 72 hosts, drawn from a seed."""
    rng = random.Random(f"site {seed}")
    site = Site()
    for number in range(1, RACKS + 1):
        feeds = (f"f{number}a",) if number % RACKS == 0 else (f"f{number}a", f"f{number}b")
        style = STYLES[number % len(STYLES)]
        tors = (f"t{number}a", f"t{number}b")
        site.racks[f"k{number}"] = Rack(f"k{number}", style, feeds, tors, f"m{number}")
    for rack in site.racks.values():
        for unit in range(1, HOSTS_PER_RACK + 1):
            host = _host(rack, unit, f"p{rng.randint(1, POOLS)}")
            site.hosts[host.name] = host
    _watch(site, rng)
    _place(site, rng)
    _agents(site, rng)
    return site


def _host(rack: Rack, unit: int, pool: str) -> Host:
    name = f"n{rack.name[1:]}-{unit:02d}"
    left, right = rack.tors
    cards = {f"{name}/e0": left, f"{name}/e1": right}
    bonds = {f"{name}/bond0": tuple(cards)}
    planes = dict.fromkeys(PLANES, tuple(cards))
    if rack.style != "converged":
        cards[f"{name}/m0"] = rack.mgmt
        planes["mgmt"] = (f"{name}/m0",)
    if rack.style == "all_apart":
        cards |= {f"{name}/s0": left, f"{name}/s1": right}
        bonds[f"{name}/bond1"] = planes["storage"] = (f"{name}/s0", f"{name}/s1")
    ports = (f"{name}/pf0", f"{name}/pf1") if unit % 3 == 0 else ()
    cards |= dict(zip(ports, rack.tors, strict=False))
    paths = (f"{name}/{pool}.0", f"{name}/{pool}.1")
    return Host(name, rack.name, pool, cards, bonds, planes, paths, ports)


def _watch(site: Site, rng: random.Random) -> None:
    """Let each host be probed by two hosts of each of two other racks and by a neighbour."""
    targets: dict[str, list[str]] = {name: [] for name in site.hosts}
    for host in site.hosts.values():
        others = [name for name in site.racks if name != host.rack]
        watch = {rack: _some(site, rng, rack, 2, host) for rack in rng.sample(others, 2)}
        watch[host.rack] = _some(site, rng, host.rack, 1, host)
        site.probers[host.name] = watch
        for names in watch.values():
            for name in names:
                targets[name].append(host.name)
        far = [other.name for other in site.hosts.values() if other.rack != host.rack]
        site.peers[host.name] = tuple(rng.sample(far, 4))
    site.targets = {name: tuple(hosts) for name, hosts in targets.items()}


def _some(site: Site, rng: random.Random, rack: str, count: int, but: Host) -> tuple[str, ...]:
    known = [h.name for h in site.hosts.values() if h.rack == rack and h.name != but.name]
    return tuple(rng.sample(known, count))


def _place(site: Site, rng: random.Random) -> None:
    """Fill the hosts with VNFs of 2-3 VMs on different hosts, and their calls along three tiers."""
    free = [name for name in site.hosts for _ in range(VMS_PER_HOST)]
    rng.shuffle(free)
    tiers: list[list[str]] = [[] for _ in range(TIERS)]
    while len(free) >= max(SIZES):
        size = rng.choice(SIZES)
        homes = [free.pop() for _ in range(size)]
        number = len(site.vnfs)
        names = tuple(_vm(site, rng, f"v{number}.{n}", home) for n, home in enumerate(homes))
        site.vnfs[f"vnf{number}"] = Vnf(f"vnf{number}", names, redundant=rng.random() < REDUNDANT)
        tier = number % TIERS
        for vm in names:
            for n in range(rng.choice((1, 1, 2))):
                app = f"{vm}.app{n}"
                below = tiers[tier - 1] if tier else []
                calls = (rng.choice(below),) if below and n == 0 else ()
                site.apps[app] = App(app, vm, calls)
                tiers[tier].append(app)
    site.apps = _callees_first(site.apps)


def _callees_first(apps: dict[str, App]) -> dict[str, App]:
    """Order by depth: a call never goes to the same depth or deeper."""
    depth: dict[str, int] = {}
    for name, app in apps.items():  # an app only ever calls one that was made before it
        depth[name] = 1 + max((depth[callee] for callee in app.calls), default=-1)
    return dict(sorted(apps.items(), key=lambda item: depth[item[0]]))


def _vm(site: Site, rng: random.Random, name: str, host: str) -> str:
    ports = site.hosts[host].ports
    vfs = tuple(f"{port}.{name}" for port in ports) if rng.random() < SRIOV else ()
    vm = Vm(name, host, vfs, rng.random() < HALF, rng.random() < HALF)
    site.vms[name] = vm
    site.guests.setdefault(host, []).append(vm)
    return name


def _agents(site: Site, rng: random.Random) -> None:
    """Let two hosts of each rack carry the network agents; a router has its standby elsewhere."""
    for rack in site.racks:
        for host in _some(site, rng, rack, 2, Host("", "", "", {}, {}, {}, ("", ""))):
            far = [other.name for other in site.hosts.values() if other.rack != rack]
            for kind in ("l3", "dhcp"):
                name = f"{host}/{kind}"
                router = f"rt-{host}" if kind == "l3" else None
                site.agents[name] = Agent(name, host, router, rng.choice(far))


# ---- the inventory ---------------------------------------------------------------------------

Edge = tuple[str, str, str]


def inventory(site: Site, placed: dict[str, str]) -> dict[str, Any]:
    """Return the topology document; `placed` says on which host the inventory believes a VM."""
    edges = [*_rack_edges(site), *_host_edges(site), *_guest_edges(site, placed)]
    names = dict.fromkeys(name for one, _, other in edges for name in (one, other))
    names |= dict.fromkeys(f"collector:{name}" for name in (*SERVICES, *probe_sources(site)))
    redundant = {f"vnf:{vnf.name}" for vnf in site.vnfs.values() if vnf.redundant}
    nodes: list[dict[str, Any]] = [
        {"id": name} | ({"redundant": True} if name in redundant else {}) for name in names
    ]
    return {
        "nodes": nodes,
        "edges": [{"from": a, "relation": relation, "to": b} for a, relation, b in edges],
    }


def probe_sources(site: Site) -> list[str]:
    """Return the names of the services that put together what the probers of a rack see."""
    return [f"probe-{rack}" for rack in site.racks]


def power_of(rack: Rack) -> str:
    """Return the entity that a rack is powered by."""
    return f"group:{rack.name}/power" if len(rack.feeds) > 1 else f"power:{rack.feeds[0]}"


def _rack_edges(site: Site) -> Iterator[Edge]:
    for pool in sorted({host.pool for host in site.hosts.values()}):
        yield f"pool:{pool}", "member_of", "site:s"
    for rack in site.racks.values():
        yield f"rack:{rack.name}", "member_of", "site:s"
        yield f"rack:{rack.name}", "powered_by", power_of(rack)
        for feed in rack.feeds:
            yield f"power:{feed}", "powered_by", "site:s"
            if len(rack.feeds) > 1:
                yield power_of(rack), "member_of", f"power:{feed}"
        for switch in (*rack.tors, rack.mgmt):
            yield f"switch:{switch}", "member_of", f"rack:{rack.name}"
            yield f"switch:{switch}", "powered_by", power_of(rack)
        for switch in rack.tors:
            yield f"group:{rack.name}/tor", "member_of", f"switch:{switch}"


def _host_edges(site: Site) -> Iterator[Edge]:
    for host in site.hosts.values():
        rack, name, me = site.racks[host.rack], host.name, f"host:{host.name}"
        yield me, "member_of", f"rack:{host.rack}"
        yield me, "powered_by", power_of(rack)
        yield f"bmc:{name}", "powered_by", me
        yield f"bmc:{name}", "attached_to", f"plane:{name}/oob"
        yield f"plane:{name}/oob", "attached_to", f"switch:{rack.mgmt}"
        yield from _card_edges(host)
        yield from _plane_edges(host, rack)
        for kind in ("hypervisor", "vswitch", "collector"):
            yield f"{kind}:{name}", "runs_on", me
        yield me, "observed_by", f"collector:{name}"
        yield f"vswitch:{name}", "attached_to", f"plane:{name}/tenant"
        for path in host.paths:
            yield f"path:{path}", "attached_to", f"pool:{host.pool}"
            yield f"path:{path}", "attached_to", f"plane:{name}/storage"
            yield f"group:{name}/storage", "member_of", f"path:{path}"
    for agent in site.agents.values():
        yield f"agent:{agent.name}", "runs_on", f"host:{agent.host}"
        if agent.router:
            yield f"router:{agent.router}", "runs_on", f"agent:{agent.name}"
            yield f"network:{agent.router}", "attached_to", f"router:{agent.router}"


def _card_edges(host: Host) -> Iterator[Edge]:
    for card, switch in host.cards.items():
        port = port_of(card, switch)
        yield f"switch_port:{port}", "member_of", f"switch:{switch}"
        yield f"link:{card}", "cabled_to", f"switch_port:{port}"
        yield f"nic:{card}", "cabled_to", f"link:{card}"
        yield f"nic:{card}", "runs_on", f"host:{host.name}"
    for bond, cards in host.bonds.items():
        for card in cards:
            yield f"lag:{bond}", "member_of", f"nic:{card}"


def _plane_edges(host: Host, rack: Rack) -> Iterator[Edge]:
    for plane in PLANES:
        bond, me = host.bond_of(plane), f"plane:{host.name}/{plane}"
        if bond is None:
            yield me, "attached_to", f"nic:{host.planes[plane][0]}"
        else:
            yield me, "attached_to", f"lag:{bond}"
            yield me, "attached_to", f"group:{rack.name}/tor"


def _guest_edges(site: Site, placed: dict[str, str]) -> Iterator[Edge]:
    for vm in site.vms.values():
        home, me = placed.get(vm.name, vm.host), f"vm:{vm.name}"
        yield me, "hosted_by", f"host:{home}"
        yield me, "attached_to", f"vswitch:{home}"
        yield me, "backs", f"group:{home}/storage"
        for vf in vm.vfs:
            yield f"vf:{vf}", "member_of", f"nic:{vf.partition('.')[0]}"
            yield f"vnic:{vf}", "runs_on", me
            yield f"vnic:{vf}", "attached_to", f"vf:{vf}"
    for app in site.apps.values():
        yield f"app:{app.name}", "runs_on", f"vm:{app.vm}"
        for callee in app.calls:
            yield f"app:{app.name}", "serves", f"app:{callee}"
    member_of = {member: one.name for one in site.vnfs.values() for member in one.vms}
    for member, vnf in member_of.items():
        yield f"vnf:{vnf}", "member_of", f"vm:{member}"
    for app in site.apps.values():
        yield f"vnf:{member_of[app.vm]}", "member_of", f"app:{app.name}"


__all__ = [
    "PLANES",
    "SERVICES",
    "Agent",
    "App",
    "Host",
    "Rack",
    "Site",
    "Vm",
    "Vnf",
    "build",
    "inventory",
    "port_of",
    "power_of",
    "probe_sources",
]

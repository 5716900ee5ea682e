"""A data centre as a graph: what stands where, what depends on what, and who probes whom.

An edge points from the dependant to what it depends on; arrows below read the same::

    rack -> site, group:RACK/power -> power:RACK/A|B -> site   switch -> rack, group:RACK/power
    switch_port -> switch    link -> switch_port    nic -> link, host    lag -> nic, nic
    host -> rack, group:RACK/power    bmc, hypervisor, vswitch, collector -> host
    plane:HOST/mgmt|tenant|storage -> lag, group:RACK/tor -> switch, switch
    vswitch -> plane tenant    collector -> plane mgmt    path -> pool, plane storage
    group:HOST/storage -> path, path    vm -> host, vswitch, group:HOST/storage
    app -> vm, other apps    vnf -> vm, vm, vm

A redundancy group is a node of its own (`lag`; `group` for both power feeds, both ToR switches
and the storage paths; `vnf` where it is active/standby). It carries `"redundant": true`, depends
on nothing but its members, and fails only when all of them do; users depend on the group.
Two things have no edge on purpose. A VM does not depend on `hypervisor` (libvirtd): it runs on
when that daemon dies. A switch port does not depend on the host, although it goes down with it.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Final, NotRequired, TypedDict

Entity = tuple[str, str]
"""Kind and id, for example ("nic", "h001/ens1f0")."""
HOSTS_PER_RACK: Final = 10
RACKS_PER_SITE: Final = 5
"""One pool serves one site, so this also bounds what a pool loss can reach."""
FEEDS: Final = ("A", "B")
SIDES: Final = ("a", "b")
CARDS: Final = ("ens1f0", "ens1f1")
PLANES: Final = ("mgmt", "tenant", "storage")
PATHS: Final = ("p0", "p1")
OUTSIDE_PEERS: Final = 3
"""Probers outside the rack for each host, beside one inside it (d2, peer.reach)."""
APP_TIERS: Final = 3
APP_NEEDS_CHANCE: Final = 0.3
"""Share of the apps above the lowest tier that need an app of a lower tier."""
VNF_MEMBERS: Final = 3
VMS_PER_VNF: Final = 10


class Node(TypedDict):
    """A node of topology.json."""

    kind: str
    id: str
    redundant: NotRequired[bool]


Edge = TypedDict("Edge", {"from": str, "to": str, "relation": str})
"""An edge of topology.json: entity ids written `kind:id`, `from` depends on `to`."""


@dataclass(frozen=True)
class Host:
    """A host: the site and rack it stands in, and the names of the hosts that probe it."""

    name: str
    site: str
    rack: str
    peers: tuple[str, ...]


@dataclass
class Site:
    """A data centre, possibly of several sites; every dict is in order of creation.

    Attributes:
        nodes: Unique nodes.
        edges: Unique edges without a cycle.
        racks: Names of the hosts of each rack.
        rack_site: Name of the site of each rack.
        hosts: Hosts by name.
        vm_host: Host name of each VM.
        app_vm: VM name of each app.
        app_needs: Apps each app calls; lower tiers come first, so callees precede callers.
        vnf_vms: VM names of each VNF.
        standby_vnfs: Names of the VNFs that survive on any one member.
        host_of: Host name of each entity that belongs to one host.
    """

    nodes: list[Node] = field(default_factory=list)
    edges: list[Edge] = field(default_factory=list)
    racks: dict[str, tuple[str, ...]] = field(default_factory=dict)
    rack_site: dict[str, str] = field(default_factory=dict)
    hosts: dict[str, Host] = field(default_factory=dict)
    vm_host: dict[str, str] = field(default_factory=dict)
    app_vm: dict[str, str] = field(default_factory=dict)
    app_needs: dict[str, tuple[str, ...]] = field(default_factory=dict)
    vnf_vms: dict[str, tuple[str, ...]] = field(default_factory=dict)
    standby_vnfs: tuple[str, ...] = ()
    host_of: dict[Entity, str] = field(default_factory=dict)

    def add(self, entity: Entity, *needs: tuple[str, Entity], redundant: bool = False) -> None:
        """Adds a node and its edges; each need is a relation and what is depended on."""
        node: Node = {"kind": entity[0], "id": entity[1]}
        if redundant:
            node["redundant"] = True
        self.nodes.append(node)
        for relation, target in needs:
            self.edges.append(
                {"from": name_of(entity), "to": name_of(target), "relation": relation}
            )

    def add_to_host(self, host: str, entity: Entity, *needs: tuple[str, Entity]) -> None:
        """Adds a node that belongs to one host; a group where its kind says so."""
        redundant = entity[0] in {"lag", "group"}
        self.add(entity, *needs, redundant=redundant)
        self.host_of[entity] = host


def name_of(entity: Entity) -> str:
    """The entity as `kind:id`."""
    return f"{entity[0]}:{entity[1]}"


def entity_of(name: str) -> Entity:
    """The inverse of `_name`: splits at the first colon."""
    kind, _, rest = name.partition(":")
    return kind, rest


def build(
    hosts: int = 100,
    vms_per_host: int = 20,
    apps_per_vm: int = 2,
    racks: int | None = None,
    seed: int = 0,
) -> Site:
    """Builds a data centre; the seed decides which apps need which and what a VNF spans.

    Args:
        hosts: Number of hosts, at least `racks`.
        vms_per_host: VMs on every host.
        apps_per_vm: Apps in every VM.
        racks: Number of racks, filled evenly; one for ten hosts if not given.
        seed: Seed of the app and VNF layout.

    Raises:
        ValueError: There are fewer hosts than racks, or no rack at all.
    """
    rack_count = -(-hosts // HOSTS_PER_RACK) if racks is None else racks
    if not 1 <= rack_count <= hosts:
        message = f"{hosts} hosts cannot fill {rack_count} racks"
        raise ValueError(message)
    rng = random.Random(seed)
    site = Site()
    _add_racks(site, hosts, rack_count)
    for host in site.hosts.values():
        _add_host(site, host)
        _add_network(site, host)
        _add_storage(site, host)
    _add_vms(site, vms_per_host)
    _add_apps(site, apps_per_vm, rng)
    _add_vnfs(site, rng)
    return site


def _add_racks(site: Site, host_count: int, rack_count: int) -> None:
    """Adds sites, pools and racks, and decides which host stands where and who probes it."""
    names = [f"h{number:03d}" for number in range(1, host_count + 1)]
    bounds = [number * host_count // rack_count for number in range(rack_count + 1)]
    for number in range(rack_count):
        site_name, rack = f"s{number // RACKS_PER_SITE + 1}", f"r{number + 1}"
        if number % RACKS_PER_SITE == 0:
            site.add(("site", site_name))
            site.add(("pool", f"{site_name}/vms"), ("member_of", ("site", site_name)))
        members = names[bounds[number] : bounds[number + 1]]
        outside = names[: bounds[number]] + names[bounds[number + 1] :]
        site.racks[rack], site.rack_site[rack] = tuple(members), site_name
        _add_rack(site, rack)
        for index, name in enumerate(members):
            peers = _peers(members, outside, index)
            site.hosts[name] = Host(name, site_name, rack, peers)


def _peers(members: list[str], outside: list[str], index: int) -> tuple[str, ...]:
    """One prober inside the rack and up to three spread over the others (d2, peer.reach)."""
    inside = [members[(index + 1) % len(members)]] if len(members) > 1 else []
    count = min(OUTSIDE_PEERS, len(outside))
    steps = [index + number * len(outside) // count for number in range(count)]
    return tuple(inside + [outside[step % len(outside)] for step in steps])


def _add_rack(site: Site, rack: str) -> None:
    """Adds a rack with two power feeds and two ToR switches."""
    site_entity = ("site", site.rack_site[rack])
    power, tor = ("group", f"{rack}/power"), ("group", f"{rack}/tor")
    feeds = [("power", f"{rack}/{feed}") for feed in FEEDS]
    switches = [("switch", f"sw-{rack}-{side}") for side in SIDES]
    for feed in feeds:
        site.add(feed, ("powered_by", site_entity))
    site.add(power, *[("member_of", feed) for feed in feeds], redundant=True)
    site.add(("rack", rack), ("member_of", site_entity), ("powered_by", power))
    for switch in switches:
        site.add(switch, ("member_of", ("rack", rack)), ("powered_by", power))
    site.add(tor, *[("member_of", switch) for switch in switches], redundant=True)


def _add_host(site: Site, host: Host) -> None:
    """Adds a host, its BMC (fed by the host's own supplies), libvirtd and vSwitch."""
    name, entity = host.name, ("host", host.name)
    rack, power = ("rack", host.rack), ("group", f"{host.rack}/power")
    site.add_to_host(name, entity, ("member_of", rack), ("powered_by", power))
    site.add_to_host(name, ("bmc", name), ("powered_by", entity))
    site.add_to_host(name, ("hypervisor", name), ("runs_on", entity))
    tenant, mgmt = ("plane", f"{name}/tenant"), ("plane", f"{name}/mgmt")
    site.add_to_host(name, ("vswitch", name), ("runs_on", entity), ("attached_to", tenant))
    site.add_to_host(name, ("collector", name), ("runs_on", entity), ("attached_to", mgmt))


def _add_network(site: Site, host: Host) -> None:
    """Adds two cards to two switches, the lag over them, and the planes the lag carries."""
    name = host.name
    index = site.racks[host.rack].index(name) + 1
    for card, side in zip(CARDS, SIDES, strict=True):
        switch, member = f"sw-{host.rack}-{side}", f"{name}/{card}"
        port, link = ("switch_port", f"{switch}/{index:02d}"), ("link", member)
        site.add_to_host(name, port, ("member_of", ("switch", switch)))
        site.add_to_host(name, link, ("cabled_to", port))
        site.add_to_host(name, ("nic", member), ("runs_on", ("host", name)), ("cabled_to", link))
    cards = [("nic", f"{name}/{card}") for card in CARDS]
    lag, tor = ("lag", f"{name}/bond0"), ("group", f"{host.rack}/tor")
    site.add_to_host(name, lag, *[("member_of", card) for card in cards])
    for plane in PLANES:
        needs = (("attached_to", lag), ("attached_to", tor))
        site.add_to_host(name, ("plane", f"{name}/{plane}"), *needs)


def _add_storage(site: Site, host: Host) -> None:
    """Adds the paths of a host to the pool of its site, and the group over them."""
    name = host.name
    plane, pool = ("plane", f"{name}/storage"), ("pool", f"{host.site}/vms")
    paths = [("path", f"{name}/{path}") for path in PATHS]
    for path in paths:
        site.add_to_host(name, path, ("attached_to", pool), ("attached_to", plane))
    group = ("group", f"{name}/storage")
    site.add_to_host(name, group, *[("member_of", path) for path in paths])


def _add_vms(site: Site, vms_per_host: int) -> None:
    """Adds the VMs, numbered through, host after host."""
    for host in site.hosts:
        for _ in range(vms_per_host):
            vm = f"vm{len(site.vm_host) + 1:05d}"
            site.vm_host[vm] = host
            runs, sends = ("hosted_by", ("host", host)), ("attached_to", ("vswitch", host))
            stores = ("backs", ("group", f"{host}/storage"))
            site.add_to_host(host, ("vm", vm), runs, sends, stores)


def _add_apps(site: Site, apps_per_vm: int, rng: random.Random) -> None:
    """Adds the apps; whole VMs belong to a tier, and needs point to lower tiers only."""
    tiers: list[list[str]] = [[] for _ in range(APP_TIERS)]
    for number, vm in enumerate(site.vm_host):
        tiers[number % APP_TIERS] += [f"{vm}-a{index + 1}" for index in range(apps_per_vm)]
    for tier, apps in enumerate(tiers):
        below = [app for lower in tiers[:tier] for app in lower]
        for app in apps:
            vm = app.rpartition("-")[0]
            needy = below and rng.random() < APP_NEEDS_CHANCE
            site.app_vm[app] = vm
            site.app_needs[app] = (rng.choice(below),) if needy else ()
            serving = [("serves", ("app", need)) for need in site.app_needs[app]]
            site.add_to_host(site.vm_host[vm], ("app", app), ("runs_on", ("vm", vm)), *serving)


def _add_vnfs(site: Site, rng: random.Random) -> None:
    """Adds VNFs over VMs on different hosts; every second one is active/standby."""
    vms_on: dict[str, list[str]] = {host: [] for host in site.hosts}
    for vm, host in site.vm_host.items():
        vms_on[host].append(vm)
    hosts = [host for host in site.hosts if vms_on[host]]
    members = min(VNF_MEMBERS, len(hosts))
    for number in range(len(site.vm_host) // VMS_PER_VNF):
        vnf, standby = f"vnf{number + 1:04d}", number % 2 == 0
        vms = tuple(rng.choice(vms_on[host]) for host in rng.sample(hosts, members))
        site.vnf_vms[vnf] = vms
        site.standby_vnfs += (vnf,) if standby else ()
        site.add(("vnf", vnf), *[("member_of", ("vm", vm)) for vm in vms], redundant=standby)

"""Generates recordings of data-centre faults: a topology, the storm of events, and the labels.

It decides what physically stops, who can notice and when; it never reads a rule, a signature or
a signal list, so that rules and generator cannot share a mistake. Called by benches, tests and
`python -m bench.storm`. Same arguments give the same bytes under any PYTHONHASHSEED.

Topology (an edge points from the dependant to what it depends on; arrows below read the same)::

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

Events carry the full signal in `type` (`nic.carrier.down`) and its first word in `layer`; `ts`
is the time of arrival in the log, in seconds. Where delivery was late, `attrs.observed_at` is
the source's own clock. `peer.reach` and `vs.bfd.down` name the far end that does not answer; the
reporter is in `source`. A reminder of a standing alarm has a new event_id and `attrs.repeat`; a
duplicate is the same event again, with the same event_id and a later `ts`. A collector that is
cut off or on a dead host says nothing, and what it would have said is lost (no spool).

Numbers: `C..` and `d..` in comments name rows and sections of the failure matrix. Outages and
boots are far shorter than in life so that a recording of two minutes holds a recovery.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import random
import sys
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from enum import Enum
from pathlib import Path
from typing import Final, NotRequired, TypedDict

Entity = tuple[str, str]
"""Kind and id, for example ("nic", "h001/ens1f0")."""
Span = tuple[float, float]
"""Start (included) and end (excluded), seconds since the start of the recording."""
Spans = tuple[Span, ...]
"""Sorted, disjoint spans; may be empty."""
Attribute = str | int | float | bool

START: Final = 1_795_428_000.0
"""Epoch seconds of the first moment of a recording: 2026-11-23T10:00:00Z, a whole minute."""
MINUTE_S: Final = 60.0
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
TRANSPORT_S: Final = (0.005, 0.03)
"""Collector to log (d4)."""
RELIST_S: Final = (0.05, 1.0)
"""An observer that sees again looks at everything this soon."""
HOST_BOOT_S: Final = (8.0, 15.0)
VM_START_S: Final = (2.0, 6.0)
APP_START_S: Final = (1.0, 3.0)
NIC_RESET_S: Final = 2.5
"""Carrier loss while a panicked host resets its cards (C02a: carrier stays up, then flaps)."""
GUEST_STALL_S: Final = 8.0
"""A guest works from its page cache this long after its disks stopped answering (C12b)."""
SHARED_SUPPLY_CHANCE: Final = 0.5
"""Share of host power losses that take the BMC along (C01: shared PSU)."""
EXPOSURE_S: Final = 6.0
"""A drawn fault is left at least this long to show itself before a larger one may bury it."""
AFTERMATH_S: Final = 30.0
"""A repaired fault may still hide others this long: boots, restarts."""
ATTEMPTS: Final = 400


class FaultKind(Enum):
    """What can break; the value is the `fault_type` of a label."""

    HOST_POWER = "host_power"
    RACK_POWER = "rack_power"
    KERNEL_PANIC = "kernel_panic"
    HOST_HANG = "host_hang"
    LINK_CUT = "link_cut"
    LAG_FLAP = "lag_flap"
    SWITCH_LOSS = "switch_loss"
    POOL_LOSS = "pool_loss"
    VSWITCH_CRASH = "vswitch_crash"
    HYPERVISOR_CRASH = "hypervisor_crash"
    VM_CRASH = "vm_crash"
    VM_HANG = "vm_hang"
    APP_CRASH = "app_crash"
    PATH_LOSS = "path_loss"


class FaultClass(TypedDict):
    """Where a fault strikes and how often."""

    root: str
    weight: float


FAULT_CLASSES: Final[dict[FaultKind, FaultClass]] = {
    FaultKind.HOST_POWER: {"root": "host", "weight": 4},
    FaultKind.RACK_POWER: {"root": "rack", "weight": 1},
    FaultKind.KERNEL_PANIC: {"root": "host", "weight": 4},
    FaultKind.HOST_HANG: {"root": "host", "weight": 4},
    FaultKind.LINK_CUT: {"root": "link", "weight": 10},
    FaultKind.LAG_FLAP: {"root": "link", "weight": 5},
    FaultKind.SWITCH_LOSS: {"root": "switch", "weight": 2},
    FaultKind.POOL_LOSS: {"root": "pool", "weight": 1},
    FaultKind.VSWITCH_CRASH: {"root": "vswitch", "weight": 4},
    FaultKind.HYPERVISOR_CRASH: {"root": "hypervisor", "weight": 4},
    FaultKind.VM_CRASH: {"root": "vm", "weight": 20},
    FaultKind.VM_HANG: {"root": "vm", "weight": 8},
    FaultKind.APP_CRASH: {"root": "app", "weight": 30},
    FaultKind.PATH_LOSS: {"root": "path", "weight": 5},
}
"""Root kind and relative frequency of each class: the shape of the matrix, not field data."""


@dataclass(frozen=True)
class Fault:
    """One physical fault.

    Attributes:
        kind: What breaks.
        root: The entity that breaks; its kind must be the one of FAULT_CLASSES.
        at: Onset, seconds since the start of the recording.
        until: Repair, same clock; beyond the end of the recording means never.
        bounces: How often the carrier drops between `at` and `until` (LAG_FLAP only).
    """

    kind: FaultKind
    root: Entity
    at: float
    until: float
    bounces: int = 1


@dataclass(frozen=True)
class Noise:
    """What monitoring does to the truth; all shares are 0 to 1, the default is no noise.

    Attributes:
        symptom_loss: Share of alarms (with their reminders and clears) that never arrive.
        root_loss: The same for alarms on a fault's own root or an equivalent of it.
        duplicate: Share of events that arrive a second time within 2 s.
        reorder: Share of events overtaken by others, by up to `reorder_s` seconds.
        reorder_s: Largest delay of a reordered event, seconds.
        late: Share of events delayed by `late_s` seconds.
        late_s: Bounds of that lateness, seconds.
        spurious_per_hour: False alarms per entity and hour.
        silent_types: Share of the signal names that nobody monitors here.
        missing_clear: Share of clears that are never sent.
        minute_stamps: `ts` is the end of the minute of arrival, as with polled data.
    """

    symptom_loss: float = 0.0
    root_loss: float = 0.0
    duplicate: float = 0.0
    reorder: float = 0.0
    reorder_s: float = 1.0
    late: float = 0.0
    late_s: Span = (2.0, 10.0)
    spurious_per_hour: float = 0.0
    silent_types: float = 0.0
    missing_clear: float = 0.0
    minute_stamps: bool = False


NOISES: Final[dict[str, Noise]] = {
    "calm": Noise(),
    "lossy": Noise(
        symptom_loss=0.1, root_loss=0.3, duplicate=0.02, reorder=0.05, late=0.05,
        spurious_per_hour=0.2, missing_clear=0.02,
    ),
    "hostile": Noise(
        symptom_loss=0.3, root_loss=0.5, duplicate=0.1, reorder=0.2, late=0.2,
        spurious_per_hour=2.0, silent_types=0.15, missing_clear=0.2,
    ),
}  # fmt: skip
"""Presets; the loss rates are those of the correlation method's table of storms."""


class EntityReference(TypedDict):
    """An entity as recordings write it."""

    kind: str
    id: str


class Event(TypedDict):
    """One line of events.jsonl; `ts` in epoch seconds."""

    ts: float
    entity: EntityReference
    layer: str
    type: str
    state: str
    severity: str
    attrs: dict[str, Attribute]
    source: str
    event_id: str


class Label(TypedDict):
    """One line of labels.jsonl; times in epoch seconds, `accept` holds equivalent roots."""

    ts: float
    end_ts: float
    root_kind: str
    root_id: str
    fault_type: str
    accept: list[list[str]]
    events_in_window: int


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
            self.edges.append({"from": _name(entity), "to": _name(target), "relation": relation})

    def add_to_host(self, host: str, entity: Entity, *needs: tuple[str, Entity]) -> None:
        """Adds a node that belongs to one host; a group where its kind says so."""
        redundant = entity[0] in {"lag", "group"}
        self.add(entity, *needs, redundant=redundant)
        self.host_of[entity] = host


def _name(entity: Entity) -> str:
    """The entity as `kind:id`."""
    return f"{entity[0]}:{entity[1]}"


def _entity(name: str) -> Entity:
    """The inverse of `_name`: splits at the first colon."""
    kind, _, rest = name.partition(":")
    return kind, rest


# --- Topology ------------------------------------------------------------------------------


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


# --- Spans of time -------------------------------------------------------------------------


def union(*groups: Spans) -> Spans:
    """The times in any of the groups.

    >>> union(((1.0, 3.0),), ((2.0, 4.0), (6.0, 7.0)))
    ((1.0, 4.0), (6.0, 7.0))
    """
    merged: list[Span] = []
    for start, end in sorted(span for group in groups for span in group):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return tuple(merged)


def intersection(*groups: Spans) -> Spans:
    """The times in all of the groups; at least one group.

    >>> intersection(((1.0, 5.0),), ((2.0, 3.0), (4.0, 9.0)))
    ((2.0, 3.0), (4.0, 5.0))
    """
    common = groups[0]
    for group in groups[1:]:
        pairs = [(max(a, c), min(b, d)) for a, b in common for c, d in group]
        common = tuple(sorted((start, end) for start, end in pairs if start < end))
    return common


def _shift(spans: Spans, start_s: float = 0.0, end_s: float = 0.0) -> Spans:
    """The spans with starts and ends moved by so many seconds, the emptied ones left out."""
    moved = [(start + start_s, end + end_s) for start, end in spans]
    return union(tuple((start, end) for start, end in moved if start < end))


def _next_outside(at: float, spans: Spans) -> float:
    """The first moment not before `at` that lies in none of the spans."""
    for start, end in spans:
        if start <= at < end:
            at = end
    return at


# --- Physics: what stops ---------------------------------------------------------------------


@dataclass
class World:
    """When which physical condition held, by condition and entity; absent means never."""

    rng: random.Random
    conditions: dict[tuple[str, Entity], Spans] = field(default_factory=dict)

    def when(self, condition: str, kind: str, name: str) -> Spans:
        """The spans in which the condition holds for `kind:name`."""
        return self.conditions.get((condition, (kind, name)), ())

    def add(self, condition: str, entity: Entity, *spans: Spans) -> None:
        """Adds spans to what is known of a condition; adding nothing stores nothing."""
        key = (condition, entity)
        total = union(self.conditions.get(key, ()), *spans)
        if total:
            self.conditions[key] = total

    def recovering(self, spans: Spans, duration_s: Span) -> Spans:
        """The spans, each prolonged by the time it takes to start again."""
        return _shift(spans, 0.0, self.rng.uniform(*duration_s)) if spans else ()


def happen(site: Site, faults: Sequence[Fault], rng: random.Random) -> World:
    """Works out every physical condition that follows from the faults, however they overlap."""
    world = World(rng)
    for fault in faults:
        _strike(world, fault)
    _spread_power(site, world)
    for host in site.hosts.values():
        _spread_host(world, host)
        _spread_storage(world, host)
    for vm, host_name in site.vm_host.items():
        _spread_vm(world, vm, host_name)
    for app in site.app_vm:
        _spread_app(site, world, app)
    for vnf in site.vnf_vms:
        _spread_vnf(site, world, vnf)
    return world


def _strike(world: World, fault: Fault) -> None:
    """Adds what the fault itself breaks, before anything spreads."""
    span, name, rng = ((fault.at, fault.until),), fault.root[1], world.rng
    conditions = {
        FaultKind.HOST_POWER: "off",
        FaultKind.KERNEL_PANIC: "panic",
        FaultKind.HOST_HANG: "hang",
        FaultKind.VM_HANG: "hung",
    }
    if fault.kind is FaultKind.RACK_POWER:
        for feed in FEEDS:
            world.add("off", ("power", f"{name}/{feed}"), span)
    elif fault.kind is FaultKind.LAG_FLAP:
        world.add("down", fault.root, _bounces(fault, rng))
    else:
        world.add(conditions.get(fault.kind, "down"), fault.root, span)
    if fault.kind is FaultKind.HOST_POWER and rng.random() < SHARED_SUPPLY_CHANCE:
        world.add("off", ("bmc", name), span)
    if fault.kind is FaultKind.KERNEL_PANIC:
        reset = fault.at + 0.6 * min(fault.until - fault.at, MINUTE_S)
        world.add("reset", fault.root, ((reset, reset + NIC_RESET_S),))


def _bounces(fault: Fault, rng: random.Random) -> Spans:
    """The times a flapping link is down: 20 to 60 % of each of its equal periods."""
    period = (fault.until - fault.at) / fault.bounces
    starts = [fault.at + number * period for number in range(fault.bounces)]
    return tuple((start, start + rng.uniform(0.2, 0.6) * period) for start in starts)


def _spread_power(site: Site, world: World) -> None:
    """A rack is dark while both of its feeds are; everything in it is then off."""
    for rack, hosts in site.racks.items():
        off = intersection(*[world.when("off", "power", f"{rack}/{feed}") for feed in FEEDS])
        world.add("off", ("rack", rack), off)
        for side in SIDES:
            world.add("down", ("switch", f"sw-{rack}-{side}"), off)
        for host in hosts:
            world.add("off", ("host", host), off)
            world.add("off", ("bmc", host), off)


def _spread_host(world: World, host: Host) -> None:
    """Derives, for one host: halted, carriers, lag, isolated, mute and deaf to BFD.

    A hung host keeps its carrier and may answer BFD (C02b); only its user space is gone.
    """
    name = host.name
    off, hang = world.when("off", "host", name), world.when("hang", "host", name)
    crashed = union(off, world.when("panic", "host", name))
    halted = world.recovering(union(crashed, hang), HOST_BOOT_S)
    reset = world.when("reset", "host", name)
    for card, side in zip(CARDS, SIDES, strict=True):
        cut = world.when("down", "link", f"{name}/{card}")
        switch = world.when("down", "switch", f"sw-{host.rack}-{side}")
        world.add("dark", ("nic", f"{name}/{card}"), cut, switch, off, reset)
    isolated = intersection(*[world.when("dark", "nic", f"{name}/{card}") for card in CARDS])
    forwarding_lost = world.when("down", "vswitch", name)
    world.add("halted", ("host", name), halted)
    world.add("isolated", ("host", name), isolated)
    world.add("mute", ("host", name), halted, isolated)
    world.add("no_bfd", ("vswitch", name), crashed, isolated, forwarding_lost)


def _spread_storage(world: World, host: Host) -> None:
    """A path is down by itself, with its pool, or with the lag that carries it."""
    name = host.name
    pool, isolated = (
        world.when("down", "pool", f"{host.site}/vms"),
        world.when("isolated", "host", name),
    )
    for path in PATHS:
        world.add("down", ("path", f"{name}/{path}"), pool, isolated)
    paths = [world.when("down", "path", f"{name}/{path}") for path in PATHS]
    world.add("down", ("group", f"{name}/storage"), intersection(*paths))


def _spread_vm(world: World, vm: str, host: str) -> None:
    """Derives, for one VM: stopped, dead (stopped, hung or without disks) and unreachable."""
    halted = world.when("halted", "host", host)
    stopped = union(world.when("down", "vm", vm), world.recovering(halted, VM_START_S))
    stalled = _shift(world.when("down", "group", f"{host}/storage"), GUEST_STALL_S)
    dead = union(stopped, stalled, world.when("hung", "vm", vm))
    world.add("stopped", ("vm", vm), stopped)
    world.add("dead", ("vm", vm), dead)
    network = union(world.when("down", "vswitch", host), world.when("isolated", "host", host))
    world.add("unreachable", ("vm", vm), dead, network)


def _spread_app(site: Site, world: World, app: str) -> None:
    """Derives, for one app: dead, unreachable, and failing because an app it needs is."""
    vm, entity = site.app_vm[app], ("app", app)
    dead_vm = world.recovering(world.when("dead", "vm", vm), APP_START_S)
    world.add("dead", entity, world.when("down", "app", app), dead_vm)
    own = world.when("dead", "app", app)
    world.add("unreachable", entity, own, world.when("unreachable", "vm", vm))
    for need in site.app_needs[app]:
        gone = world.when("unreachable", "app", need)
        world.add("starved", entity, gone, world.when("starved", "app", need))


def _spread_vnf(site: Site, world: World, vnf: str) -> None:
    """A VNF is degraded without one VM; it is down without all, or one if it has no standby."""
    members = [world.when("unreachable", "vm", vm) for vm in site.vnf_vms[vnf]]
    any_lost, all_lost = union(*members), intersection(*members)
    world.add("degraded", ("vnf", vnf), any_lost)
    world.add("down", ("vnf", vnf), all_lost if vnf in site.standby_vnfs else any_lost)


# --- Observation: who notices, and when ------------------------------------------------------


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


# --- The storm -------------------------------------------------------------------------------


@dataclass
class Tape:
    """What has been heard so far: arrival, observation (both relative seconds) and event."""

    rng: random.Random
    seconds: float
    noise: Noise
    seed: int
    silent: tuple[str, ...] = ()
    roots: dict[Entity, bool] = field(default_factory=dict)
    heard: list[tuple[float, float, Event]] = field(default_factory=list)
    count: int = 0

    def events(self) -> list[Event]:
        """The events by time of arrival; ties by observation, then by event id."""
        order = sorted(self.heard, key=lambda item: (item[0], item[1], item[2]["event_id"]))
        return [event for _, _, event in order]


def storm(
    site: Site, faults: Sequence[Fault], seconds: float, noise: Noise, seed: int
) -> list[Event]:
    """The events that monitoring sends while the faults happen, sorted by `ts`.

    Args:
        site: Where it happens.
        faults: What happens, in any order; overlaps, also on one subtree, are worked out.
        seconds: Length of the recording; what is observed later is left out.
        noise: What is lost, false, late or doubled on the way.
        seed: Decides every delay and every bit of noise.

    Raises:
        ValueError: A fault's root is not in the site, is of the wrong kind, or ends too soon.
    """
    _check(site, faults)
    rng = random.Random(seed)
    world = happen(site, faults, rng)
    names = sorted({watch.signal for watch in _watches()})
    silent = tuple(rng.sample(names, round(noise.silent_types * len(names))))
    tape = Tape(rng, seconds, noise, seed, silent)
    for fault in faults:
        tape.roots.update(dict.fromkeys([fault.root, *accepted(site, fault)], True))
    for sighting in sightings(site, world):
        _hear(tape, sighting)
    _imagine(tape, site)
    return tape.events()


def _check(site: Site, faults: Sequence[Fault]) -> None:
    """Refuses faults that cannot happen at this site."""
    known = {(node["kind"], node["id"]) for node in site.nodes}
    for fault in faults:
        expected = FAULT_CLASSES[fault.kind]["root"]
        if fault.root[0] != expected or fault.root not in known:
            message = f"{fault.kind.value} cannot strike {_name(fault.root)}"
            raise ValueError(message)
        if fault.until <= fault.at or fault.bounces < 1:
            message = f"{fault.kind.value} at {fault.at} s ends at {fault.until} s"
            raise ValueError(message)


def _watches() -> list[Watch]:
    """All watches of this module."""
    return [value for value in globals().values() if isinstance(value, Watch)]


def _hear(tape: Tape, sighting: Sighting) -> None:
    """Records what one observer sends about each time its condition held."""
    watch, rng, noise = sighting.watch, tape.rng, tape.noise
    loss = noise.root_loss if sighting.entity in tape.roots else noise.symptom_loss
    transport, last = rng.uniform(*TRANSPORT_S), 0.0
    for start, end in sighting.when:
        seen = max(start + rng.uniform(*watch.first), last)
        hidden_until = _next_outside(seen, sighting.blind)
        if hidden_until > seen:
            seen = _next_outside(hidden_until + rng.uniform(*RELIST_S), sighting.blind)
        works, lost = rng.random() < watch.chance, rng.random() < loss
        if lost or not works or watch.signal in tape.silent or seen >= min(end, tape.seconds):
            continue
        moments = _reminders(tape, sighting, (seen, end))
        for repeat, moment in enumerate(moments):
            _record(tape, sighting, (moment, moment + transport), repeat)
        last = _hear_clear(tape, sighting, (end, transport)) + 0.002


def _reminders(tape: Tape, sighting: Sighting, span: Span) -> list[float]:
    """The first report and its reminders, each with a jitter of 2 % of the period."""
    moments, period = [span[0]], sighting.watch.again
    moment = span[0]
    while period > 0:
        moment += period * tape.rng.uniform(0.98, 1.02)
        if moment >= min(span[1], tape.seconds):
            break
        if _next_outside(moment, sighting.blind) == moment:
            moments.append(moment)
    return moments


def _hear_clear(tape: Tape, sighting: Sighting, end: tuple[float, float]) -> float:
    """Records the clear of a condition, given its end and the transport, and returns when.

    Monitoring notices a recovery within 5 s even where it took longer to notice the failure.
    """
    low, high = sighting.watch.first
    cleared = end[0] + tape.rng.uniform(min(low, 1.0), min(high, 5.0))
    cleared = _next_outside(cleared, sighting.blind)
    sent = sighting.watch.clears and tape.rng.random() >= tape.noise.missing_clear
    if sent and cleared < tape.seconds:
        _record(tape, sighting, (cleared, cleared + end[1]), None)
    return cleared


def _record(tape: Tape, sighting: Sighting, moment: Span, repeat: int | None) -> None:
    """Puts one event on the tape.

    Args:
        tape: Where to.
        sighting: Who reports what.
        moment: Time of observation and earliest time of arrival, relative seconds.
        repeat: Number of the reminder, 0 for the first report, None for a clear.
    """
    noise, rng, watch = tape.noise, tape.rng, sighting.watch
    late = rng.uniform(*noise.late_s) if rng.random() < noise.late else 0.0
    late += rng.uniform(0.0, noise.reorder_s) if rng.random() < noise.reorder else 0.0
    attrs = dict(sighting.attrs)
    if "ok" in attrs:
        attrs["ok"] = repeat is None
    if repeat:
        attrs["repeat"] = repeat
    if late or noise.minute_stamps:
        attrs["observed_at"] = round(START + moment[0], 3)
    tape.count += 1
    state = "cleared" if repeat is None else "raised"
    event: Event = {
        "ts": _stamp(tape, moment[1] + late),
        "entity": {"kind": sighting.entity[0], "id": sighting.entity[1]},
        "layer": watch.signal.partition(".")[0],
        "type": watch.signal,
        "state": state,
        "severity": "info" if repeat is None else watch.severity,
        "attrs": attrs,
        "source": sighting.source,
        "event_id": _digest(tape, sighting, state),
    }
    tape.heard.append((event["ts"], moment[0], event))
    if rng.random() < noise.duplicate:
        again = moment[1] + late + rng.uniform(0.0, 2.0)
        double: Event = {**event, "ts": _stamp(tape, again)}
        tape.heard.append((double["ts"], moment[0], double))


def _stamp(tape: Tape, arrival: float) -> float:
    """Epoch seconds of an arrival, to the millisecond or up to the next whole minute."""
    if tape.noise.minute_stamps:
        return START + MINUTE_S * math.ceil(arrival / MINUTE_S)
    return round(START + arrival, 3)


def _digest(tape: Tape, sighting: Sighting, state: str) -> str:
    """An event id: 32 hexadecimal digits, unique because the running number is hashed too."""
    words = (str(tape.seed), str(tape.count), sighting.source, _name(sighting.entity))
    text = "|".join((*words, sighting.watch.signal, state))
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _imagine(tape: Tape, site: Site) -> None:
    """Records false alarms: a Poisson stream over all entities, most of them cleared soon."""
    entities = [(node["kind"], node["id"]) for node in site.nodes if node["kind"] in SPURIOUS]
    rate = tape.noise.spurious_per_hour * len(entities) / 3600.0
    moment = tape.rng.expovariate(rate) if rate > 0 else math.inf
    while moment < tape.seconds:
        entity = tape.rng.choice(entities)
        watch, transport = SPURIOUS[entity[0]], tape.rng.uniform(*TRANSPORT_S)
        place = site.hosts[site.host_of[entity]].site
        sighting = Sighting(watch, entity, f"collector:probe-{place}", ())
        if watch.signal not in tape.silent:
            _record(tape, sighting, (moment, moment + transport), 0)
            _hear_clear(tape, sighting, (moment + tape.rng.uniform(1.0, 8.0), transport))
        moment += tape.rng.expovariate(rate)


BACKGROUND: Final[dict[str, tuple[str, ...]]] = {
    "host": ("os.load.sample", "os.memory.sample", "os.session.info"),
    "nic": ("nic.rx.sample", "nic.tx.sample"),
    "switch_port": ("tor.counters.sample",),
    "vm": ("vm.cpu.sample", "vm.disk.sample", "vm.balloon.info"),
    "app": ("app.requests.sample", "app.audit.info"),
    "path": ("path.latency.sample",),
}
"""Harmless readings by kind of entity: no fault ever sends them and no rule should match."""


def background(site: Site, count: int, seconds: float, seed: int) -> list[Event]:
    """So many metric and info events, evenly spread over time and entities, sorted by `ts`."""
    rng = random.Random(seed)
    tape = Tape(rng, seconds, Noise(), -1 - seed)
    entities = [(node["kind"], node["id"]) for node in site.nodes if node["kind"] in BACKGROUND]
    for _ in range(count):
        entity, moment = rng.choice(entities), rng.uniform(0.0, seconds)
        host = site.host_of[entity]
        watch = Watch(rng.choice(BACKGROUND[entity[0]]), "info", (0.0, 0.0))
        value: dict[str, Attribute] = {"value": round(rng.random(), 4)}
        sighting = Sighting(watch, entity, f"collector:{host}/metrics", (), (), value)
        _record(tape, sighting, (moment, moment + TRANSPORT_S[0]), 0)
    return tape.events()


# --- Faults and labels -----------------------------------------------------------------------


def draw_faults(
    site: Site, count: int, seconds: float, seed: int, overlap: float = 0.25
) -> list[Fault]:
    """Draws faults that can all be seen, sorted by onset; every class once, then by weight.

    Args:
        site: Where they strike.
        count: How many.
        seconds: Length of the recording; onsets lie in its first 70 %.
        seed: Decides everything.
        overlap: Share of the faults that strike where another has already struck.

    Raises:
        ValueError: The site is too small for so many faults that do not hide each other.
    """
    rng = random.Random(seed)
    users = _users(site)
    drawn: list[tuple[Fault, set[Entity]]] = []
    for kind in _draw_kinds(rng, count):
        for _ in range(ATTEMPTS):
            near = [fault for fault, _ in drawn] if rng.random() < overlap else []
            fault = _draw_fault(site, rng, (kind, seconds), near)
            new = (fault, _hidden(users, fault.root))
            if all(_both_show(new, other) for other in drawn):
                drawn.append(new)
                break
        else:
            message = f"no room for fault {len(drawn) + 1} of {count}: {kind.value}"
            raise ValueError(message)
    return sorted((fault for fault, _ in drawn), key=lambda fault: (fault.at, fault.root))


def _draw_kinds(rng: random.Random, count: int) -> list[FaultKind]:
    """Every class once, then by weight, shuffled."""
    kinds = list(FAULT_CLASSES)
    rng.shuffle(kinds)
    weights = [FAULT_CLASSES[kind]["weight"] for kind in kinds]
    chosen = kinds[:count] + rng.choices(kinds, weights, k=max(0, count - len(kinds)))
    rng.shuffle(chosen)
    return chosen


def _draw_fault(
    site: Site,
    rng: random.Random,
    plan: tuple[FaultKind, float],
    near: Sequence[Fault],
) -> Fault:
    """One fault of the planned kind in a recording so long, if possible near another fault."""
    kind, seconds = plan
    onset = round(rng.uniform(0.03, 0.7) * seconds, 3)
    wanted = FAULT_CLASSES[kind]["root"]
    roots = [(node["kind"], node["id"]) for node in site.nodes if node["kind"] == wanted]
    if near:
        host = site.host_of.get(rng.choice(near).root, "")
        roots = [root for root in roots if site.host_of.get(root) == host] or roots
    root = rng.choice(roots)
    if kind is FaultKind.LAG_FLAP:
        bounces = rng.randint(4, 10)
        return Fault(kind, root, onset, round(onset + bounces * rng.uniform(2.0, 5.0), 3), bounces)
    lasting = rng.uniform(20.0, 90.0) if rng.random() < 0.6 else 2.0 * seconds  # noqa: PLR2004
    return Fault(kind, root, onset, round(onset + lasting, 3))


def _users(site: Site) -> dict[Entity, list[tuple[Entity, int]]]:
    """For each entity its direct dependants, with how many members must fail to fail them.

    Calls between apps are left out: a starved app still shows when it crashes itself.
    """
    redundant = {(node["kind"], node["id"]) for node in site.nodes if node.get("redundant")}
    members: dict[Entity, int] = {}
    for edge in site.edges:
        user = _entity(edge["from"])
        members[user] = members.get(user, 0) + 1
    users: dict[Entity, list[tuple[Entity, int]]] = {}
    for edge in site.edges:
        user, target = _entity(edge["from"]), _entity(edge["to"])
        if edge["relation"] != "serves":
            needed = members[user] if user in redundant else 1
            users.setdefault(target, []).append((user, needed))
    return users


def _hidden(users: dict[Entity, list[tuple[Entity, int]]], root: Entity) -> set[Entity]:
    """What fails with the root, itself included; only ever asked for membership."""
    failed, found, queue = {root}, dict[Entity, int](), [root]
    while queue:
        for user, needed in users.get(queue.pop(), []):
            found[user] = found.get(user, 0) + 1
            if found[user] >= needed and user not in failed:
                failed.add(user)
                queue.append(user)
    return failed


def _both_show(one: tuple[Fault, set[Entity]], other: tuple[Fault, set[Entity]]) -> bool:
    """Whether neither of two faults, each with what fails with it, hides the other entirely."""
    first, second = (one, other) if one[0].at <= other[0].at else (other, one)
    lasts = second[0].at < first[0].until + AFTERMATH_S
    exposed = second[0].at - first[0].at >= EXPOSURE_S
    starts_hidden = lasts and second[0].root in first[1]
    return not starts_hidden and (exposed or first[0].root not in second[1])


def accepted(site: Site, fault: Fault) -> list[Entity]:
    """Other entities that name the same physical thing as the fault's root; may be empty."""
    kind, name = fault.root
    if kind == "rack":
        return [("group", f"{name}/power"), *[("power", f"{name}/{feed}") for feed in FEEDS]]
    if kind == "link":
        host, _, card = name.partition("/")
        rack = site.hosts[host].rack
        index, side = site.racks[rack].index(host) + 1, SIDES[CARDS.index(card)]
        return [("nic", name), ("switch_port", f"sw-{rack}-{side}/{index:02d}")]
    return []


def label(
    site: Site,
    faults: Sequence[Fault],
    events: Sequence[Event],
    seconds: float,
    noise: Noise,
) -> list[Label]:
    """The truth about each fault, sorted by onset.

    A window runs from onset to repair or the end of the recording; with minute stamps it ends
    with that minute, or the stamps of its last events would lie outside.
    """
    stamps = [event["ts"] for event in events]
    labels: list[Label] = []
    for fault in sorted(faults, key=lambda item: (item.at, item.root)):
        last = min(fault.until, seconds)
        last = MINUTE_S * math.ceil(last / MINUTE_S) if noise.minute_stamps else last
        start, end = START + fault.at, START + last
        labels.append({
            "ts": round(start, 3),
            "end_ts": round(end, 3),
            "root_kind": fault.root[0],
            "root_id": fault.root[1],
            "fault_type": fault.kind.value,
            "accept": [list(entity) for entity in accepted(site, fault)],
            "events_in_window": bisect_right(stamps, end) - bisect_left(stamps, start),
        })  # fmt: skip
    return labels


# --- Files and command line ------------------------------------------------------------------


def write(
    folder: Path,
    site: Site,
    events: Sequence[Event],
    labels: Sequence[Label],
    note: str = "",
) -> None:
    """Writes a recording folder: topology.json, events.jsonl, labels.jsonl and META.json.

    Args:
        folder: Created where missing; files of these names are replaced.
        site: The topology.
        events: Sorted by `ts`.
        labels: Sorted by `ts`.
        note: How the recording was made, for META.json.
    """
    folder.mkdir(parents=True, exist_ok=True)
    topology = {"nodes": site.nodes, "edges": site.edges}
    meta = {
        "source": "generated by bench.storm",
        "note": note,
        "events": len(events),
        "labels": len(labels),
        "nodes": len(site.nodes),
        "edges": len(site.edges),
    }
    (folder / "topology.json").write_text(_json(topology) + "\n", encoding="utf-8")
    _write_lines(folder / "events.jsonl", events)
    _write_lines(folder / "labels.jsonl", labels)
    (folder / "META.json").write_text(json.dumps(meta, indent=1) + "\n", encoding="utf-8")


def _json(value: object) -> str:
    """Compact JSON; keys keep the order they were made in."""
    return json.dumps(value, separators=(",", ":"))


def _write_lines(path: Path, items: Iterable[object]) -> None:
    """Writes one JSON object a line."""
    with path.open("w", encoding="utf-8") as lines:
        lines.writelines(_json(item) + "\n" for item in items)


def _save(folder: Path, site: Site, events: list[Event], labels: list[Label], note: str) -> str:
    """Writes the recording and returns one sentence about it."""
    write(folder, site, events, labels, note)
    counts = f"{len(site.nodes)} nodes, {len(site.edges)} edges, {len(events)} events"
    return f"{folder}: {counts}, {len(labels)} labels\n"


def _run_storm(options: argparse.Namespace) -> str:
    """Makes a storm of drawn faults."""
    seed, seconds = int(options.seed), float(options.seconds)
    noise = replace(NOISES[options.noise], minute_stamps=bool(options.minute_stamps))
    site = build(options.hosts, options.vms, options.apps, options.racks, seed)
    faults = draw_faults(site, options.faults, seconds, seed)
    events = storm(site, faults, seconds, noise, seed)
    labels = label(site, faults, events, seconds, noise)
    note = f"storm, seed {seed}, {seconds:g} s, noise {_json(asdict(noise))}"
    return _save(options.out, site, events, labels, note)


SMALL_FAULTS: Final[dict[str, Fault]] = {
    "rack-power": Fault(FaultKind.RACK_POWER, ("rack", "r1"), 10.0, 70.0),
    "lag-flap": Fault(FaultKind.LAG_FLAP, ("link", "h002/ens1f0"), 10.0, 34.0, 8),
}
"""The fault of each small recording; two minutes leave room for its recovery."""


def _run_small(options: argparse.Namespace) -> str:
    """Makes a recording of 2 racks x 4 hosts x 4 VMs x 2 apps with one fault and no noise."""
    name, seconds, seed = str(options.command), 120.0, int(options.seed)
    site = build(8, 4, 2, 2, seed)
    faults = [SMALL_FAULTS[name]]
    events = storm(site, faults, seconds, Noise(), seed)
    labels = label(site, faults, events, seconds, Noise())
    return _save(options.out, site, events, labels, f"{name}, seed {seed}, no noise")


def _run_scale(options: argparse.Namespace) -> str:
    """Makes a large topology, a few faults and much that matches nothing."""
    seed, seconds, wanted = int(options.seed), float(options.seconds), int(options.entities)
    sample = build(HOSTS_PER_RACK * RACKS_PER_SITE, options.vms, options.apps)
    hosts = max(HOSTS_PER_RACK, round(wanted * len(sample.hosts) / len(sample.nodes)))
    site = build(hosts, options.vms, options.apps, None, seed)
    faults = draw_faults(site, options.faults, seconds, seed)
    count = 2 * wanted if options.background is None else int(options.background)
    events = storm(site, faults, seconds, Noise(), seed)
    events += background(site, count, seconds, seed)
    events.sort(key=lambda event: event["ts"])
    labels = label(site, faults, events, seconds, Noise())
    note = f"scale, seed {seed}, {count} background events"
    return _save(options.out, site, events, labels, note)


def _parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.storm",
        description="Generate a recording folder: topology, events, labels.",
        epilog="Example: python -m bench.storm storm recordings/one --faults 20 --seed 1",
    )
    commands = parser.add_subparsers(dest="command", required=True)
    for name, summary in (
        ("storm", "many faults in one data centre"),
        ("rack-power", "both feeds of one rack fail; 2 racks x 4 hosts x 4 VMs x 2 apps"),
        ("lag-flap", "one lag member bounces 8 times; the same small data centre"),
        ("scale", "a large topology and much background, for throughput"),
    ):
        command = commands.add_parser(name, help=summary, description=summary)
        command.add_argument("out", type=Path, metavar="OUT", help="folder to write")
        command.add_argument("--seed", type=int, default=1, help="default 1")
        command.set_defaults(run=_run_small)
        if name in {"storm", "scale"}:
            _add_sizes(command, name)
    return parser


def _add_sizes(command: argparse.ArgumentParser, name: str) -> None:
    """Adds the options of the two large recordings."""
    whole, faults = int, 20 if name == "storm" else 6
    command.add_argument("--vms", type=whole, default=20, help="VMs per host, default 20")
    command.add_argument("--apps", type=whole, default=2, help="apps per VM, default 2")
    command.add_argument("--seconds", type=float, default=120.0, help="length, default 120")
    command.add_argument("--faults", type=whole, default=faults, help=f"default {faults}")
    if name == "storm":
        command.add_argument("--hosts", type=whole, default=100, help="default 100")
        command.add_argument("--racks", type=whole, help="default: one for ten hosts")
        command.add_argument("--noise", choices=list(NOISES), default="calm", help="default calm")
        command.add_argument("--minute-stamps", action="store_true", help="ts in whole minutes")
        command.set_defaults(run=_run_storm)
        return
    command.add_argument("--entities", type=whole, default=100_000, help="about, default 100000")
    command.add_argument("--background", type=whole, help="events, default two per entity")
    command.set_defaults(run=_run_scale)


def main(arguments: Sequence[str] | None = None) -> int:
    """Writes the recording asked for; returns 0, or 2 where it cannot exist."""
    options = _parser().parse_args(arguments)
    try:
        sys.stdout.write(options.run(options))
    except ValueError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""What stops when something breaks: spans of time in which a physical condition holds."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from bench.storm.faults import Fault, FaultKind
from bench.storm.site import CARDS, FEEDS, PATHS, SIDES, Entity, Host, Site

Span = tuple[float, float]
"""Start (included) and end (excluded), seconds since the start of the recording."""
Spans = tuple[Span, ...]
"""Sorted, disjoint spans; may be empty."""
MINUTE_S: Final = 60.0
HOST_BOOT_S: Final = (8.0, 15.0)
VM_START_S: Final = (2.0, 6.0)
APP_START_S: Final = (1.0, 3.0)
NIC_RESET_S: Final = 2.5
"""Carrier loss while a panicked host resets its cards (C02a: carrier stays up, then flaps)."""
GUEST_STALL_S: Final = 8.0
"""A guest works from its page cache this long after its disks stopped answering (C12b)."""
SHARED_SUPPLY_CHANCE: Final = 0.5
"""Share of host power losses that take the BMC along (C01: shared PSU)."""


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


def next_outside(at: float, spans: Spans) -> float:
    """The first moment not before `at` that lies in none of the spans."""
    for start, end in spans:
        if start <= at < end:
            at = end
    return at


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

"""What breaks, when, and for how long; every row C01-C17 of the failure matrix, and racks.

A fault says only what is *broken*, phase by phase; what follows is the physics' business. `names`
are the entities that tell the same fault apart from nothing: the list is kept as short as physics
allows (see `_cable`, `_rack_power` and `_rack_network`).
"""

import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from bench.second.physics import STALL_S, Broken
from bench.second.world import Host, Site, Vm, port_of, power_of

Phase = tuple[float, frozenset[tuple[str, str]]]
LASTS_S = (90.0, 180.0)
GAP_S = (50.0, 90.0)
"""From one beginning to the next."""
FIRST_S = 30.0
APART_S = 150.0
"""Between faults that share a rack or a pool, where the variant keeps them apart."""
HALF = 0.5
"""Of the faults of a kind take the first of its two courses."""
STAYS_NEAR = 0.95
"""Chance to look again nearby where there was nothing to break; else anywhere."""
EXTRA = 3
"""Faults beside one of each kind."""


@dataclass(frozen=True, slots=True)
class Draft:
    """A fault before its time: `phases` are (seconds from its beginning, what is broken then)."""

    names: tuple[str, ...]
    """The entity first, then those that physics cannot tell from it."""
    phases: tuple[Phase, ...]


@dataclass(frozen=True, slots=True)
class Fault:
    """The truth: what failed, and from when to when, seconds."""

    kind: str
    host: str
    """Where it was drawn; its rack and pool are what a set keeps apart."""
    names: tuple[str, ...]
    start: float
    end: float
    phases: tuple[Phase, ...]

    def broken(self, at: float) -> Broken:
        """Return what this fault has broken at a time."""
        if not self.start <= at < self.end:
            return frozenset()
        return next(b for offset, b in reversed(self.phases) if self.start + offset <= at)

    def turns(self) -> Iterable[float]:
        """Yield the times at which something may change by it."""
        for moment in (*(self.start + offset for offset, _ in self.phases), self.end):
            if moment <= self.end:
                yield from (moment, moment + STALL_S)


def broken_at(faults: Iterable[Fault], at: float) -> Broken:
    """Return all that is broken at a time."""
    return frozenset(one for fault in faults for one in fault.broken(at))


def _always(names: Iterable[str], *broken: tuple[str, str]) -> Draft:
    return Draft(tuple(names), ((0.0, frozenset(broken)),))


# ---- one draw for each kind: None where the host has no such thing ---------------------------


def _host_power(_: Site, host: Host, rng: random.Random) -> Draft:
    """Half of the time the shared supply takes the BMC along."""
    standby = [("standby", host.name)] if rng.random() < HALF else []
    return _always([f"host:{host.name}"], ("power", host.name), *standby)


def _kernel_panic(_: Site, host: Host, rng: random.Random) -> Draft:
    """It says so, dumps, boots; the host serves again when the fault ends."""
    down = frozenset({("kernel", host.name)})
    dumped_s = rng.uniform(30.0, 70.0)
    phases = (
        (0.0, down | {("panic-told", host.name), ("dumping", host.name)}),
        (dumped_s, down),
    )
    return Draft((f"host:{host.name}",), phases)


def _host_hang(_: Site, host: Host, __: random.Random) -> Draft:
    return _always([f"host:{host.name}"], ("user", host.name))


def _cable(host: Host, card: str, *planes: str) -> Draft:
    """Card, cable and port: both ends lose the carrier, whichever of the three it was."""
    port = f"switch_port:{port_of(card, host.cards[card])}"
    return _always([f"link:{card}", f"nic:{card}", port, *planes], ("card", card))


def _mgmt_link(_: Site, host: Host, __: random.Random) -> Draft | None:
    """The one cable of a plane is that plane: nothing else is between the host and its switch."""
    cards = host.planes["mgmt"]
    return _cable(host, cards[0], f"plane:{host.name}/mgmt") if len(cards) == 1 else None


def _mgmt_network(site: Site, host: Host, _: random.Random) -> Draft:
    switch = site.racks[host.rack].mgmt
    return _always([f"switch:{switch}"], ("switch", switch))


def _one_tor(site: Site, host: Host, rng: random.Random) -> Draft:
    switch = rng.choice(site.racks[host.rack].tors)
    return _always([f"switch:{switch}"], ("switch", switch))


def _rack_network(site: Site, host: Host, rng: random.Random) -> Draft:
    """The uplinks of both ToRs, or both ToRs: then it is as true of each that it has failed."""
    rack = site.racks[host.rack]
    names = [f"rack:{rack.name}", f"group:{rack.name}/tor"]
    if rng.random() < HALF:
        return _always(names, ("uplink", rack.name))
    dead = [f"switch:{tor}" for tor in rack.tors]
    return _always([*names, *dead], *(("switch", tor) for tor in rack.tors))


def _bond_member(_: Site, host: Host, rng: random.Random) -> Draft:
    return _cable(host, rng.choice(host.bonds[f"{host.name}/bond0"]))


def _tenant_bond(_: Site, host: Host, __: random.Random) -> Draft | None:
    bond = host.bond_of("tenant")
    if bond is None or host.bond_of("mgmt") is not None:
        return None
    return _always([f"lag:{bond}"], *(("card", card) for card in host.bonds[bond]))


def _libvirtd(_: Site, host: Host, __: random.Random) -> Draft:
    return _always([f"hypervisor:{host.name}"], ("libvirt", host.name))


def _vswitch(_: Site, host: Host, __: random.Random) -> Draft:
    return _always([f"vswitch:{host.name}"], ("vswitch", host.name))


def _any_vm(site: Site, host: Host, rng: random.Random) -> Vm | None:
    vms = site.vms_on(host.name)
    return rng.choice(vms) if vms else None


def _vm_crash(site: Site, host: Host, rng: random.Random) -> Draft | None:
    vm = _any_vm(site, host, rng)
    return _always([f"vm:{vm.name}"], ("vm", vm.name)) if vm else None


def _vm_hang(site: Site, host: Host, rng: random.Random) -> Draft | None:
    vm = _any_vm(site, host, rng)
    if vm is None:
        return None
    panic = [("guest-kernel", vm.name)] if rng.random() < HALF else []
    return _always([f"vm:{vm.name}"], ("guest", vm.name), *panic)


def _app(site: Site, host: Host, rng: random.Random) -> Draft | None:
    vms = {vm.name for vm in site.vms_on(host.name)}
    apps = [app.name for app in site.apps.values() if app.vm in vms]
    if not apps:
        return None
    app = rng.choice(apps)
    return _always([f"app:{app}"], ("app", app))


def _one_path(_: Site, host: Host, rng: random.Random) -> Draft:
    path = rng.choice(host.paths)
    return _always([f"path:{path}"], ("path", path))


def _all_paths(_: Site, host: Host, __: random.Random) -> Draft:
    return _always([f"group:{host.name}/storage"], *(("path", path) for path in host.paths))


def _pool(_: Site, host: Host, __: random.Random) -> Draft:
    return _always([f"pool:{host.pool}"], ("pool", host.pool))


def _degrading(_: Site, host: Host, rng: random.Random) -> Draft:
    return _always([f"host:{host.name}"], (rng.choice(("memory", "disk")), host.name))


def _heat(_: Site, host: Host, rng: random.Random) -> Draft:
    """It warms, gets hot and, half of the time, switches itself off."""
    name = host.name
    warm, hot = frozenset({("warm", name)}), frozenset({("warm", name), ("hot", name)})
    off = hot | {("tripped", name), ("power", name)}
    phases: tuple[Phase, ...] = ((0.0, warm), (rng.uniform(15.0, 30.0), hot))
    if rng.random() < HALF:
        phases = (*phases, (rng.uniform(40.0, 60.0), off))
    return Draft((f"host:{name}",), phases)


def _bmc(_: Site, host: Host, __: random.Random) -> Draft:
    return _always([f"bmc:{host.name}"], ("bmc", host.name))


def _sriov(_: Site, host: Host, rng: random.Random) -> Draft | None:
    return _cable(host, rng.choice(host.ports)) if host.ports else None


def _agent(site: Site, host: Host, rng: random.Random) -> Draft | None:
    agents = [agent.name for agent in site.agents.values() if agent.host == host.name]
    if not agents:
        return None
    agent = rng.choice(agents)
    return _always([f"agent:{agent}"], ("agent", agent))


def _rack_power(site: Site, host: Host, _: random.Random) -> Draft:
    """All feeds at once: the rack and what feeds it alone are one thing then."""
    rack = site.racks[host.rack]
    names = [f"rack:{rack.name}", power_of(rack)]
    return _always(names, *(("feed", feed) for feed in rack.feeds))


Draw = Callable[[Site, Host, random.Random], Draft | None]
KINDS: dict[str, Draw] = {
    "C01-host-power": _host_power,
    "C02a-kernel-panic": _kernel_panic,
    "C02b-host-hang": _host_hang,
    "C03-mgmt-link": _mgmt_link,
    "C03-mgmt-switch": _mgmt_network,
    "C04a-one-tor": _one_tor,
    "C04b-rack-network": _rack_network,
    "C05-bond-member": _bond_member,
    "C06-tenant-bond": _tenant_bond,
    "C07-libvirtd": _libvirtd,
    "C08-vswitch": _vswitch,
    "C09-vm-crash": _vm_crash,
    "C10-vm-hang": _vm_hang,
    "C11-app": _app,
    "C12a-one-path": _one_path,
    "C12b-all-paths": _all_paths,
    "C12c-pool": _pool,
    "C13-degrading": _degrading,
    "C14-heat": _heat,
    "C15-bmc": _bmc,
    "C16-sriov-port": _sriov,
    "C17-agent": _agent,
    "rack-power": _rack_power,
}
SHARED = ("switch", "uplink", "pool", "feed")
"""What is no single host's: a fence for it helps nobody."""
WIDE = ("C12c-pool",)
"""Kinds that reach over racks: kept alone where faults are kept apart."""


# ---- a whole storm -----------------------------------------------------------------------------


def draw(site: Site, seed: int, *, overlapping: bool) -> list[Fault]:
    """Return one fault of each kind and some more, in time order.

    Apart: none shares a rack or a pool with one that still has echoes. Overlapping: every second
    one begins within seconds of the one before and near it, so that their subtrees meet.
    """
    rng = random.Random(f"faults {seed} {overlapping}")
    kinds = [*KINDS, *rng.sample(list(KINDS), EXTRA)]
    rng.shuffle(kinds)
    faults: list[Fault] = []
    at = FIRST_S
    for number, kind in enumerate(kinds):
        near = faults[-1] if overlapping and number % 2 and faults else None
        start = near.start + rng.uniform(0.5, 30.0) if near else at
        faults.append(_one(site, kind, start, faults, near, rng))
        if near is None or not overlapping:
            at = max(at, start) + rng.uniform(*GAP_S) * (2.0 if overlapping else 1.0)
    return sorted(faults, key=lambda fault: fault.start)


def _one(  # noqa: PLR0913, PLR0917 - what a fault is drawn from
    site: Site, kind: str, start: float, faults: list[Fault], near: Fault | None, rng: random.Random
) -> Fault:
    while True:
        hosts = _near(site, near.host, rng) if near else list(site.hosts)
        host = site.hosts[rng.choice(hosts)]
        draft = KINDS[kind](site, host, rng)
        lasts_s = rng.uniform(*LASTS_S)
        if draft is None or any(set(draft.names) & set(other.names) for other in faults):
            near = near if rng.random() < STAYS_NEAR else None
            continue
        fault = Fault(kind, host.name, draft.names, start, start + lasts_s, draft.phases)
        if near or not any(_echoes(site, fault, other) for other in faults):
            return fault
        start += 1.0


def _near(site: Site, host: str, rng: random.Random) -> list[str]:
    """Return the same host, its rack, its pool, or the hosts it shares network functions with."""
    me = site.hosts[host]
    mine = {vm.name for vm in site.vms_on(host)}
    shared = {
        site.vms[vm].host for vnf in site.vnfs.values() if mine & set(vnf.vms) for vm in vnf.vms
    }
    rack = [name for name, other in site.hosts.items() if other.rack == me.rack]
    pool = [name for name, other in site.hosts.items() if other.pool == me.pool]
    return rng.choice(([host], rack, rack, pool, sorted(shared) or [host]))


def _echoes(site: Site, one: Fault, other: Fault) -> bool:
    """Claim that two faults could be heard in the same place at the same time."""
    if one.start > other.end + APART_S or other.start > one.end + APART_S:
        return False
    here, there = site.hosts[one.host], site.hosts[other.host]
    wide = one.kind in WIDE or other.kind in WIDE
    return here.rack == there.rack or (wide and here.pool == there.pool)


__all__ = ["KINDS", "SHARED", "Draft", "Fault", "broken_at", "draw"]

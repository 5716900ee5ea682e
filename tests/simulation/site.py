"""What stands where: up to 8 hosts in 2 racks, their cables, feeds and storage, VMs and functions.

Fixed for a run. The same layout is given to the engine as its topology and to the physics.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random
from typing import Any

RACKS = ("r1", "r2")
FEEDS = ("A", "B")
SIDES = ("a", "b")
PLANES = ("mgmt", "tenant", "storage")
HOSTS_PER_RACK = 4
POOL = "p1"


@dataclass(frozen=True, slots=True)
class Site:
    """The layout of one world; names are short (``h1``), entities are made where they are told."""

    hosts: tuple[str, ...]
    rack_of: dict[str, str]
    home: dict[str, str]
    """VM → host at the beginning."""
    app_of: dict[str, str]
    """VM → its application."""
    calls: tuple[tuple[str, str], ...]
    """(application, application that it needs)."""
    functions: dict[str, tuple[str, str]]
    """Redundant network function → its two VMs, on different racks."""
    opted_out: frozenset[str]
    """VMs that nobody but their owner may touch."""
    autostart: frozenset[str]
    """Hosts that start their guests when they boot."""
    shared_supply: frozenset[str]
    """Hosts whose BMC loses power with them."""

    def peers(self, host: str) -> list[str]:
        """Return who probes a host: three outside its rack, one inside."""
        outside = [h for h in self.hosts if self.rack_of[h] != self.rack_of[host]]
        inside = [h for h in self.hosts if self.rack_of[h] == self.rack_of[host] and h != host]
        turn = self.hosts.index(host)
        return [outside[(turn + n) % len(outside)] for n in range(3)] + [inside[turn % len(inside)]]

    def document(self) -> dict[str, Any]:
        """Return the topology file of the site."""
        edges = [{"from": a, "relation": r, "to": b} for a, r, b in self._edges()]
        ends = dict.fromkeys(end for edge in edges for end in (edge["from"], edge["to"]))
        nodes: list[dict[str, Any]] = [{"id": end} for end in ends]
        for node in nodes:
            if node["id"].startswith("vnf:"):
                node["redundant"] = True
        return {"nodes": nodes, "edges": edges}

    def _edges(self) -> Iterator[tuple[str, str, str]]:
        yield f"pool:{POOL}", "member_of", "site:s1"
        for rack in RACKS:
            yield from _rack(rack)
        for host in self.hosts:
            yield from _host(host, self.rack_of[host])
        for vm, host in self.home.items():
            yield from placement(vm, host)
            yield f"app:{self.app_of[vm]}", "runs_on", f"vm:{vm}"
        for caller, needed in self.calls:
            yield f"app:{caller}", "serves", f"app:{needed}"
        for name, members in self.functions.items():
            for vm in members:
                yield f"vnf:{name}", "member_of", f"vm:{vm}"


def placement(vm: str, host: str) -> Iterator[tuple[str, str, str]]:
    """Yield the edges of a VM that follow it from host to host."""
    yield f"vm:{vm}", "hosted_by", f"host:{host}"
    yield f"vm:{vm}", "attached_to", f"vswitch:{host}"
    yield f"vm:{vm}", "backs", f"group:{host}/storage"


def _rack(rack: str) -> Iterator[tuple[str, str, str]]:
    for feed in FEEDS:
        yield f"power:{rack}/{feed}", "powered_by", "site:s1"
        yield f"group:{rack}/power", "member_of", f"power:{rack}/{feed}"
    yield f"rack:{rack}", "member_of", "site:s1"
    yield f"rack:{rack}", "powered_by", f"group:{rack}/power"
    for side in SIDES:
        yield f"switch:{rack}-{side}", "member_of", f"rack:{rack}"
        yield f"switch:{rack}-{side}", "powered_by", f"group:{rack}/power"
        yield f"group:{rack}/tor", "member_of", f"switch:{rack}-{side}"


def _host(host: str, rack: str) -> Iterator[tuple[str, str, str]]:
    entity = f"host:{host}"
    yield entity, "member_of", f"rack:{rack}"
    yield entity, "powered_by", f"group:{rack}/power"
    yield f"bmc:{host}", "powered_by", entity
    for kind in ("hypervisor", "vswitch", "collector"):
        yield f"{kind}:{host}", "runs_on", entity
    for card, side in enumerate(SIDES):
        port, link = f"switch_port:{rack}-{side}/{host}", f"link:{host}/e{card}"
        nic = f"nic:{host}/e{card}"
        yield port, "member_of", f"switch:{rack}-{side}"
        yield link, "cabled_to", port
        yield nic, "cabled_to", link
        yield nic, "runs_on", entity
        yield f"lag:{host}", "member_of", nic
    for plane in PLANES:
        yield f"plane:{host}/{plane}", "attached_to", f"lag:{host}"
        yield f"plane:{host}/{plane}", "attached_to", f"group:{rack}/tor"
    yield f"vswitch:{host}", "attached_to", f"plane:{host}/tenant"
    yield f"collector:{host}", "attached_to", f"plane:{host}/mgmt"
    for path in ("p0", "p1"):
        yield f"path:{host}/{path}", "attached_to", f"pool:{POOL}"
        yield f"path:{host}/{path}", "attached_to", f"plane:{host}/storage"
        yield f"group:{host}/storage", "member_of", f"path:{host}/{path}"


def draw_site(rng: Random) -> Site:
    """Return a site; what is drawn is how full it is and what its hosts are like."""
    hosts = tuple(f"h{n + 1}" for n in range(HOSTS_PER_RACK * len(RACKS)))
    rack_of = {host: RACKS[n // HOSTS_PER_RACK] for n, host in enumerate(hosts)}
    home: dict[str, str] = {}
    for host in hosts:
        for _ in range(rng.choice((0, 1, 2, 2, 3))):
            home[f"v{len(home) + 1}"] = host
    for host in (hosts[0], hosts[-1]):  # each rack holds one at least, so there is a pair
        if host not in home.values():
            home[f"v{len(home) + 1}"] = host
    app_of = {vm: vm.replace("v", "a") for vm in home}
    apps = list(app_of.values())
    calls = tuple((a, b) for a, b in zip(apps, apps[3:], strict=False) if rng.random() < 0.3)
    left = [vm for vm, host in home.items() if rack_of[host] == RACKS[0]]
    right = [vm for vm, host in home.items() if rack_of[host] == RACKS[1]]
    pairs = list(zip(left, right, strict=False))[: rng.randint(1, 3)]
    return Site(
        hosts=hosts,
        rack_of=rack_of,
        home=home,
        app_of=app_of,
        calls=calls,
        functions={f"n{n + 1}": pair for n, pair in enumerate(pairs)},
        opted_out=frozenset(vm for vm in home if rng.random() < 0.1),
        autostart=frozenset(host for host in hosts if rng.random() < 0.3),
        shared_supply=frozenset(host for host in hosts if rng.random() < 0.4),
    )

"""Where a workload is brought: a host that is well, has room, and that its site allows.

A pure function of the workload, the graph, the settings and what the domain is moving already; the
same view gives the same host. What the graph or the settings do not know forbids nothing: where
nobody states a capacity, any host that is well will do. Called by guards and planner.
Keeps: H26 (never the source, a suspect, or what has failed with it; a place is taken once).
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Set
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import cache

from correlator.domain import Domain
from correlator.plans import PlannedStep, tried
from correlator.rules.paths import parse_path, walk
from correlator.rules.settings import Book, Effective
from correlator.state import Sent
from correlator.topology import Topology
from schemas.base import kind_of
from schemas.rules import Limits

PLACED_VERBS = frozenset({"evacuate_vm", "rebuild_vm", "create_vm", "live_migrate"})
"""Verbs after which a workload runs on another host; a restart stays where it is."""
SERVING = ("hypervisor", "vswitch")
"""What a guest needs of its host beside the host itself."""
STORAGE_WAY = frozenset({"nic", "lag", "plane", "path", "lease"})
"""Kinds on the way from a host to the pools that it reaches."""
IN_VAIN = frozenset({"FAILED", "REJECTED", "PREVENTED", "REVOKED"})
"""States of a move that takes no place: nothing came of it."""
UNDER_WAY = frozenset({"SENT", "ACCEPTED", "RUNNING"})
BUSY = "busy"
BELOW_MAX = 64
"""Entities a host may stand on; a graph with more below one host is no inventory."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a workload goes, and what was ruled out for its sake."""

    destination: str
    exclude: tuple[str, ...] = ()
    """Hosts it must not be on whatever happens: its source, and those of its rivals."""
    group: tuple[str, ...] = ()
    """Groups that were respected."""


@dataclass(frozen=True, slots=True)
class Nowhere:
    """Why there is no place."""

    text: str
    is_busy: bool = False
    """There is one, as soon as it has taken in what is on its way there."""


@dataclass(frozen=True, slots=True)
class View:
    """What a placement reads."""

    topology: Topology
    book: Book
    failed: Set[str] = frozenset()
    """Roots of open incidents, what is worked on, and what is quarantined or fenced."""
    shows: Callable[[str], bool] = lambda _: False
    """Claims that a symptom of some fault stands on an entity."""
    moving: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Workload → hosts it is being brought to."""
    arriving: Mapping[str, int] = field(default_factory=dict)
    """Host → workloads on their way there."""
    arriving_max: int = Limits().workloads_per_host_max


@dataclass(frozen=True, slots=True)
class Move:
    """One workload that needs a place."""

    vm: str
    avoid: tuple[str, ...] = ()
    """Kinds of failure groups to leave, e.g. rack where the heat is the rack's."""
    tried: tuple[str, ...] = ()
    """Hosts on which it did not come up."""


def view_of(domain: Domain) -> View:
    """Return what a placement in a domain reads now."""
    state = domain.state
    failed = {incident.fault[1] for incident in state.incidents.values()} | state.sessions.keys()
    moving: dict[str, tuple[str, ...]] = {}
    arriving: Counter[str] = Counter()
    for _, incident in sorted(state.incidents.items(), key=lambda one: one[0]):
        for sent in incident.sent:
            if sent.verb in ("quarantine", "fence") and sent.state != "REVOKED":
                failed.add(sent.target)
            host = sent.placement.get("destination")
            if host and _takes_place(state.topology, sent):
                moving[sent.target] = (*moving.get(sent.target, ()), host)
                arriving[host] += sent.state in UNDER_WAY

    @cache
    def shows(entity: str) -> bool:
        keys = domain.standing.at.get(entity, ())
        return any(domain.stands(key) and domain.codebook.causes(*key) for key in keys)

    most = domain.rules.limits.workloads_per_host_max
    return View(state.topology, domain.book, failed, shows, moving, arriving, most)


def _takes_place(topology: Topology, sent: Sent) -> bool:
    """Claim that a move may have filled its destination, and that the graph does not say so yet."""
    if sent.state in IN_VAIN:
        return False
    if sent.state != "CONFIRMED":
        return True
    now = hosts_of(topology, sent.target)
    return not now or any(host in sent.placement["exclude"] for host in now)


def placed(step: PlannedStep, vm: str) -> Place | Nowhere:
    """Return where a step brings a workload now: not where an earlier attempt did not come up."""
    before = [one for verb in sorted(PLACED_VERBS) for one in tried(step.plan.incident, verb, vm)]
    failed = (one.placement.get("destination", "") for one in before if one.state == "FAILED")
    avoid = tuple(filter(None, [step.body.parameters.get("avoid", "")]))
    return place(view_of(step.plan.domain), Move(vm, avoid, tuple(filter(None, failed))))


def may_be_at(topology: Topology, sent: Sent, host: str) -> bool:
    """Claim that what was sent may have started a copy on a host that is still there."""
    if sent.placement.get("destination") != host or sent.state in IN_VAIN:
        return False
    return host in hosts_of(topology, sent.target) or _takes_place(topology, sent)


def ended_with(step: PlannedStep, vm: str) -> list[str]:
    """Return the keys of the fences that have ended copies of a workload elsewhere."""
    sent = (one for one in step.plan.incident.sent if one.target == vm and one.ended_with)
    return sorted({one.ended_with for one in sent})


def place(view: View, move: Move) -> Place | Nowhere:
    """Return the emptiest host that nothing speaks against, or why there is none.

    Cost: the hosts, and what lies around those that are looked at.
    """
    wish = Wish.of(view, move)
    lost = sorted(pool for pool in wish.pools if pool in view.failed)
    if lost:
        return Nowhere(f"its storage {lost[0]} has failed")
    down = view.topology.down
    hosts = view.topology.of_kind("host")
    hosts.sort(key=lambda host: (view.arriving.get(host, 0), len(down[host]), host))
    found: Counter[str] = Counter()
    for host in hosts:
        reason = next((text for text, holds in OBJECTIONS if holds(wish, host)), "")
        if not reason:
            return Place(host, wish.ruled_out(), wish.groups())
        found[reason] += 1
    told = ", ".join(f"{number} {reason}" for reason, number in sorted(found.items()))
    return Nowhere(f"of {len(hosts)} hosts {told or 'none is known'}", BUSY in found)


@dataclass(frozen=True, slots=True)
class Wish:
    """A move, with what is known of its workload."""

    view: View
    move: Move
    said: Effective
    sources: tuple[str, ...]
    left: frozenset[str]
    """Failure groups to leave."""
    pools: frozenset[str]
    """Pools whose ways are known, and that must be reached."""
    together: frozenset[str]
    """Hosts of those it must be with; empty where it may be anywhere."""

    @classmethod
    def of(cls, view: View, move: Move) -> "Wish":
        """Return a move as it is asked about at each host."""
        said = view.book.of(move.vm)
        sources = hosts_of(view.topology, move.vm)
        left = {
            group
            for kind in move.avoid
            for host in sources
            for group in walk(view.topology, host, parse_path(f"^{kind}"))
        }
        pools = _pools(view.topology, move.vm)
        together = _partners(view, move.vm, said, sources) if said.affinity else set()
        return cls(view, move, said, sources, frozenset(left), pools, frozenset(together))

    def rivals(self, host: str) -> list[str]:
        """Return the workloads on a host, or on their way there, that it must not be with."""
        apart = set(self.said.anti_affinity)
        if not apart:
            return []
        near = _guests(self.view, host) - {self.move.vm}
        return [one for one in near if apart & set(self.view.book.of(one).anti_affinity)]

    def ruled_out(self) -> tuple[str, ...]:
        """Return its sources and the hosts where its rivals are, sorted."""
        hosts = self.view.topology.of_kind("host") if self.said.anti_affinity else []
        return tuple(sorted({*self.sources, *(host for host in hosts if self.rivals(host))}))

    def groups(self) -> tuple[str, ...]:
        """Return the groups that are respected, sorted."""
        return tuple(sorted({*self.said.affinity, *self.said.anti_affinity}))


# ---- what speaks against a host ------------------------------------------------------------


def _is_reserved(wish: Wish, host: str) -> bool:
    reserved = wish.view.book.of(host).reserved_for
    return reserved is not None and wish.said.priority > reserved


def _is_excluded(wish: Wish, host: str) -> bool:
    if not wish.said.exclude:
        return False
    below = list(_below(wish.view.topology, host))
    return any(fnmatchcase(one, pattern) for pattern in wish.said.exclude for one in below)


def _is_beside_source(wish: Wish, host: str) -> bool:
    return not wish.left.isdisjoint(_below(wish.view.topology, host)) if wish.left else False


def _lacks_storage(wish: Wish, host: str) -> bool:
    return not all(_reaches(wish.view, host, wish.sources, pool) for pool in wish.pools)


def _is_full(wish: Wish, host: str) -> bool:
    view, room = wish.view, wish.view.book.of(host).capacity
    if room is None:
        return False
    guests = _guests(view, host) - {wish.move.vm}
    vcpus = wish.said.vcpus + sum(view.book.of(one).vcpus for one in guests)
    has_too_many = room.vms is not None and len(guests) + 1 > room.vms
    return has_too_many or (room.vcpus is not None and vcpus > room.vcpus)


OBJECTIONS: tuple[tuple[str, Callable[[Wish, str], bool]], ...] = (
    ("its own", lambda wish, host: host in wish.sources),
    ("tried in vain", lambda wish, host: host in wish.move.tried),
    ("away from its group", lambda wish, host: bool(wish.together) and host not in wish.together),
    ("reserved", _is_reserved),
    ("excluded", _is_excluded),
    ("beside its source", _is_beside_source),
    ("in trouble", lambda wish, host: is_in_trouble(wish.view, host)),
    ("without its storage", _lacks_storage),
    ("with one of its group", lambda wish, host: bool(wish.rivals(host))),
    ("full", _is_full),
    (BUSY, lambda wish, host: wish.view.arriving.get(host, 0) >= wish.view.arriving_max),
)
"""What may speak against a host, in the order in which it is asked; the first is told."""


def hosts_of(topology: Topology, vm: str) -> tuple[str, ...]:
    """Return the hosts that the graph places a workload on."""
    return tuple(one for one in topology.dependencies(vm) if kind_of(one) == "host")


# ---- hosts ---------------------------------------------------------------------------------


def is_in_trouble(view: View, host: str) -> bool:
    """Claim that a host, what it serves guests with, or what these stand on is not well."""
    serving = [one for one in view.topology.down[host] if kind_of(one) in SERVING]
    if any(view.shows(one) for one in (host, *serving)):
        return True
    return any(
        node in view.failed for one in (host, *serving) for node in _below(view.topology, one)
    )


def _below(topology: Topology, entity: str) -> Iterator[str]:
    """Yield an entity and what it stands on; of a redundancy group no member: it has others."""
    waiting, met = [entity], {entity}
    while waiting:
        node = waiting.pop()
        yield node
        if node in topology.redundant and node != entity:
            continue
        for one in topology.dependencies(node):
            if one not in met and len(met) < BELOW_MAX:
                met.add(one)
                waiting.append(one)


def _guests(view: View, host: str) -> set[str]:
    """Return the workloads on a host, and those on their way there."""
    here = {one for one in view.topology.down[host] if kind_of(one) == "vm"}
    if not view.arriving and not view.moving:
        return here
    return here | {vm for vm, hosts in view.moving.items() if host in hosts}


def _partners(view: View, vm: str, said: Effective, sources: tuple[str, ...]) -> set[str]:
    """Return the hosts where those are, or are brought, that a workload shares a host with.

    Those that are left on its source do not bind it: they have to leave as well.
    """
    groups = set(said.affinity)
    hosts: set[str] = set()
    for other in view.topology.of_kind("vm"):
        if other != vm and groups & set(view.book.of(other).affinity):
            hosts.update(hosts_of(view.topology, other), view.moving.get(other, ()))
    return hosts - set(sources)


# ---- storage -------------------------------------------------------------------------------


def _pools(topology: Topology, vm: str) -> frozenset[str]:
    """Return the pools that a workload is stored on."""
    waiting = [one for one, relation in topology.up.get(vm, ()) if relation == "backs"]
    pools, met = set(), set(waiting)
    while waiting:
        node = waiting.pop()
        if kind_of(node) == "pool":
            pools.add(node)
            continue
        for one in topology.dependencies(node):
            if one not in met and kind_of(one) in ("group", "path", "pool"):
                met.add(one)
                waiting.append(one)
    return frozenset(pools)


def _reaches(view: View, host: str, sources: tuple[str, ...], pool: str) -> bool:
    """Claim that a host has a way to a pool that works, or that ways to it are not known.

    They are known where the graph has one from a source: that host did reach the pool (R14).
    """
    ways = _ways(view.topology, host, pool)
    if ways:
        return any(_works(view, way) for way in ways)
    return not any(_ways(view.topology, source, pool) for source in sources)


def _ways(topology: Topology, host: str, pool: str) -> list[str]:
    """Return what leads from a host to a pool: paths and leases."""
    waiting, met, ways = [host], {host}, []
    while waiting and len(met) < BELOW_MAX:
        node = waiting.pop()
        if pool in topology.dependencies(node):
            ways.append(node)
        for one in topology.down.get(node, ()):
            if one not in met and kind_of(one) in STORAGE_WAY:
                met.add(one)
                waiting.append(one)
    return ways


def _works(view: View, way: str) -> bool:
    groups = [one for one in view.topology.down[way] if kind_of(one) == "group"]
    bad = any(view.shows(one) or one in view.failed for one in (way, *groups))
    return not bad and not any(node in view.failed for node in _below(view.topology, way))

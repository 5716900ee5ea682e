"""Edits of the topology that the log brings: told by a collector, or proven by an event.

An edit costs its neighbourhood, never the graph. Called by the intake; keeps the codebook and the
look-ups of what stands in line with the graph.
"""

from collections.abc import Iterable

from correlator.domain import Domain
from correlator.topology import Edge, Topology
from schemas.base import kind_of
from schemas.inputs import Event, TopologyDelta

PLACE_MAX = 1024
"""Entities on a host, and below one of them, that are asked when a guest of it moves."""
HOSTED_BY = "hosted_by"
"""The relation whose edits are placements: each one is a new generation of the VM."""


def heal(domain: Domain, event: Event) -> None:
    """Move the edges that an event's attributes prove."""
    for dependant, relation, parent in domain.state.topology.healing_parents(event):
        text = f"{event.signal} names {parent}: {relation} moved (event {event.event_id})"
        _move(domain, (dependant, relation, parent), "topology_healed", text)


def edit(domain: Domain, delta: TopologyDelta) -> None:
    """Carry out one edit; what changes nothing is counted."""
    if delta.op in ("add_node", "remove_node"):
        touched = _edit_node(domain, delta) if delta.node else set()
    elif delta.from_ and delta.to:
        touched = _edit_edge(domain, delta, (delta.from_, delta.relation, delta.to))
    else:
        touched = set()
    if touched:
        _changed(domain, touched)
    else:
        domain.state.count("topology_unchanged")


def _edit_node(domain: Domain, delta: TopologyDelta) -> set[str]:
    """Return the nodes an edit of a node touched, none where it changed nothing."""
    topology, node = domain.state.topology, str(delta.node)
    if delta.op == "add_node":
        return {node} if topology.add_node(node, redundant=delta.redundant) else set()
    near = {node, *topology.dependencies(node), *topology.down.get(node, ())}
    return near if topology.remove_node(node) else set()


def _edit_edge(domain: Domain, delta: TopologyDelta, edge: tuple[str, str, str]) -> set[str]:
    """Return the nodes an edit of an edge touched, none where it changed nothing."""
    topology = domain.state.topology
    dependant, relation, dependency = edge
    if delta.op == "move_edge":
        text = f"{dependant} now {relation} {dependency} (by {delta.source})"
        return _moved(domain, edge, "topology_moved", text)
    if delta.op == "remove_edge":
        return {dependant, dependency} if topology.remove_edge(*edge) else set()
    if topology.add_edge(*edge):
        _placed(domain, dependant, relation)
        return {dependant, dependency}
    if (dependency, relation) not in topology.up[dependant]:
        text = f"{dependant} {relation} {dependency} would close a cycle: left out"
        domain.note(dependant, "topology_cycle", text, "refuse")
    return set()


def _move(domain: Domain, edge: tuple[str, str, str], reason: str, text: str) -> None:
    touched = _moved(domain, edge, reason, text)
    if touched:
        _changed(domain, touched)


def _moved(domain: Domain, edge: tuple[str, str, str], reason: str, text: str) -> set[str]:
    topology = domain.state.topology
    known = edge[0] in topology
    changed = topology.move_edge(*edge)
    if changed:
        if known and len(changed) > 1:
            domain.note(edge[0], reason, text)
        _placed(domain, edge[0], edge[1])
        left = [to for _, _, to in changed[:-1]]
        changed += [one for host in left for one in _taken_along(domain, edge, host)]
    return {node for dependant, _, dependency in changed for node in (dependant, dependency)}


def _taken_along(domain: Domain, edge: tuple[str, str, str], left: str) -> list[Edge]:
    """Move what else an entity stood on at the place it left to its counterpart at the new one.

    A guest that is elsewhere sends over that host's switch and stores over that host's paths.
    """
    topology = domain.state.topology
    dependant, relation, place = edge
    if relation != HOSTED_BY:
        return []
    there = _standing_on(topology, place)
    here = _standing_on(topology, left)
    moved: list[Edge] = []
    for to, other in list(topology.up.get(dependant, ())):
        counterpart = _counterpart(topology, to, there - here) if to in here else None
        if counterpart is not None:
            topology.remove_edge(dependant, other, to)
            topology.add_edge(dependant, other, counterpart)
            moved += [(dependant, other, to), (dependant, other, counterpart)]
    return moved


def _standing_on(topology: Topology, place: str) -> set[str]:
    """Return what stands on a place, guests and what stands on those left out."""
    found, waiting = set[str](), [place]
    while waiting and len(found) < PLACE_MAX:
        under = waiting.pop()
        for node in topology.down.get(under, ()):
            if node not in found and (under, HOSTED_BY) not in topology.up[node]:
                found.add(node)
                waiting.append(node)
    return found


def _counterpart(topology: Topology, entity: str, there: set[str]) -> str | None:
    """Return what is of the same kind there and shares most of what the entity stands on."""
    below = _below(topology, entity)
    alike = {
        node: len(below & _below(topology, node))
        for node in there
        if kind_of(node) == kind_of(entity)
    }
    most = max(alike.values(), default=0)
    best = sorted(node for node, shared in alike.items() if shared == most)
    return best[0] if len(best) == 1 else None


def _below(topology: Topology, entity: str) -> set[str]:
    found, waiting = set[str](), [entity]
    while waiting and len(found) < PLACE_MAX:
        new = [node for node in topology.dependencies(waiting.pop()) if node not in found]
        found.update(new)
        waiting += new
    return found


def _placed(domain: Domain, dependant: str, relation: str) -> None:
    if kind_of(dependant) == "vm" and relation == HOSTED_BY:
        domain.state.next_generation(dependant)


def _changed(domain: Domain, nodes: Iterable[str]) -> None:
    """Work out anew what an edit touched; symptoms standing nearby are looked at again."""
    near = domain.codebook.forget(nodes)
    domain.standing.profiles.clear()
    if near is None:
        domain.unsettle(domain.state.incidents)
    else:
        for node in near:
            domain.unsettle(domain.holding(node))
    keys = sorted(domain.state.sightings) if near is None else domain.standing.on(near)
    for key in keys:
        domain.know(key)
    if keys:
        domain.state.dirty.update(keys)
        domain.look_soon()

"""Edits of the topology that the log brings: told by a collector, or proven by an event.

An edit costs its neighbourhood, never the graph. Called by the intake; keeps the codebook and the
look-ups of what stands in line with the graph.
"""

from collections.abc import Iterable

from correlator.domain import Domain
from schemas.base import kind_of
from schemas.inputs import Event, TopologyDelta

HOSTED_BY = "hosted_by"
"""The relation whose edits are placements: each one is a new generation of the VM."""


def heal(domain: Domain, event: Event) -> None:
    """Move the edges that an event's attributes prove."""
    edges = list(domain.state.topology.healing_parent(event.entity, event.attrs))
    for dependant, relation, parent in edges:
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
    return {node for dependant, _, dependency in changed for node in (dependant, dependency)}


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
            domain.unsettle(domain.standing.naming(node))
    keys = sorted(domain.state.sightings) if near is None else domain.standing.on(near)
    for key in keys:
        domain.standing.add(key, domain.codebook.causes(*key))
    if keys:
        domain.state.dirty.update(keys)
        domain.look_soon()

"""The dependency graph: typed nodes, edges *a depends on b*, redundancy groups, live edits.

Pure data on plain dictionaries, updated edge by edge; networkx is asked for the algorithms
(cycles, export, layout). Called by the codebook (walks) and the engine (edits).
Keeps: the graph of failure-carrying edges has no cycle.
"""

from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import networkx as nx

from schemas.base import is_entity, kind_of
from schemas.inputs import Event
from schemas.topology import HealingRule, TopologySchema

RELATION_STRENGTH = (
    "powered_by",
    "runs_on",
    "hosted_by",
    "attached_to",
    "cabled_to",
    "member_of",
    "backs",
    "serves",
)
"""Relations that carry failure, the surest first; a cycle is cut at its weakest one."""

SILENT_RELATIONS = frozenset({"observed_by", "same_domain", "standby_of"})
"""Relations along which no failure travels."""

CUTS_MAX = 500
"""Cycles of three and more mended one by one; a graph with more is no dependency graph."""

Edge = tuple[str, str, str]
"""(dependant, relation, dependency)."""


def _named(rule: HealingRule, event: Event) -> str | None:
    """Return the parent that an attribute names."""
    named = event.attrs.get(str(rule.attr)) if event.attrs else None
    if not isinstance(named, str) or not named:
        return None
    parent = named if named.startswith(f"{rule.to}:") else f"{rule.to}:{named}"
    return parent if is_entity(parent) else None


@dataclass
class ImportReport:
    """What an import met that the schema did not foresee; nothing of it stops the import."""

    nodes: int = 0
    edges: int = 0
    unknown_kinds: Counter[str] = field(default_factory=Counter)
    unknown_relations: Counter[str] = field(default_factory=Counter)
    cut_edges: list[Edge] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)

    def lines(self) -> list[str]:
        """Return the report as sentences, in a fixed order; empty when all was as foreseen."""
        unknown = [
            f"unknown kind {k}: {n} nodes, used" for k, n in sorted(self.unknown_kinds.items())
        ]
        unknown += [
            f"unknown relation {r}: {n} edges, taken to carry failure"
            for r, n in sorted(self.unknown_relations.items())
        ]
        cuts = [f"cycle cut at {a} -{r}-> {b}" for a, r, b in self.cut_edges]
        return unknown + cuts + self.faults


class Topology:
    """The dependency graph of one domain."""

    def __init__(self, schema: TopologySchema | None = None) -> None:
        self.schema = schema or TopologySchema()
        self.up: dict[str, tuple[tuple[str, str], ...]] = {}
        """node → ((dependency, relation), …), sorted."""
        self.down: dict[str, tuple[str, ...]] = {}
        """node → (dependant, …), sorted; failure-carrying edges only."""
        self.redundant_flags: dict[str, bool] = {}
        """nodes whose redundancy was stated, against or beside their kind."""
        self.redundant: set[str] = set()
        """redundancy groups: they fail only when all their members do."""
        self.kind_counts: Counter[str] = Counter()
        self.silent_down: dict[str, set[str]] = {}
        """node → dependants over edges that carry no failure."""
        self._of_kind: dict[str, set[str]] = {}
        """kind → its nodes, for kinds that were asked for."""
        self.silent = SILENT_RELATIONS | {
            name for name, rule in self.schema.relations.items() if not rule.carries
        }
        self._redundant_kinds = {k for k, rule in self.schema.kinds.items() if rule.redundant}
        self._healing: dict[str, list[HealingRule]] = {}
        for rule in self.schema.healing:
            self._healing.setdefault(rule.kind, []).append(rule)
        self._places: dict[tuple[str, str], tuple[tuple[tuple[str, str], ...], str | None]] = {}
        """(teller, kind) → its edges when last asked, and the one of that kind that it is on."""

    def __contains__(self, node: str) -> bool:
        return node in self.up

    def __len__(self) -> int:
        return len(self.up)

    def __iter__(self) -> Iterator[str]:
        return iter(self.up)

    def dependencies(self, node: str) -> list[str]:
        """Return what the node depends on, sorted, over failure-carrying edges."""
        if not self.silent_down:
            return [to for to, _ in self.up.get(node, ())]
        return [to for to, relation in self.up.get(node, ()) if relation not in self.silent]

    def of_kind(self, kind: str) -> list[str]:
        """Return the nodes of a kind, sorted; O(nodes) when first asked, then kept."""
        if kind not in self._of_kind:
            self._of_kind[kind] = {node for node in self.up if kind_of(node) == kind}
        return sorted(self._of_kind[kind])

    def edges(self) -> Iterator[Edge]:
        """Yield every edge, silent ones too, in the order of the nodes."""
        return ((a, relation, b) for a, outs in self.up.items() for b, relation in outs)

    def add_node(self, node: str, *, redundant: bool | None = None) -> bool:
        """Add a node; return whether anything changed."""
        changed = node not in self.up
        if changed:
            self.up[node] = ()
            self.down[node] = ()
            kind = kind_of(node)
            self.kind_counts[kind] += 1
            if kind in self._of_kind:
                self._of_kind[kind].add(node)
            if kind in self._redundant_kinds:
                self.redundant.add(node)
        if redundant is not None and self.redundant_flags.get(node) != redundant:
            self.redundant_flags[node] = redundant
            self.redundant.add(node) if redundant else self.redundant.discard(node)
            changed = True
        return changed

    def remove_node(self, node: str) -> bool:
        """Remove a node and its edges; return whether it was there."""
        if node not in self.up:
            return False
        for to, relation in self.up[node]:
            self.remove_edge(node, relation, to)
        for dependant in sorted({*self.down[node], *self.silent_down.get(node, ())}):
            for to, relation in self.up[dependant]:
                if to == node:
                    self.remove_edge(dependant, relation, to)
        del self.up[node], self.down[node]
        self.kind_counts[kind_of(node)] -= 1
        self._of_kind.get(kind_of(node), set()).discard(node)
        self.redundant_flags.pop(node, None)
        self.redundant.discard(node)
        self.silent_down.pop(node, None)
        return True

    def add_edge(self, dependant: str, relation: str, dependency: str) -> bool:
        """Add an edge and its nodes; return False for a repeat or where it would close a cycle."""
        self.add_node(dependant)
        self.add_node(dependency)
        if (dependency, relation) in self.up[dependant]:
            return False
        if relation not in self.silent:
            if self._reaches(dependency, dependant):
                return False
            self._link(dependant, dependency)
        else:
            self.silent_down.setdefault(dependency, set()).add(dependant)
        self.up[dependant] = tuple(sorted((*self.up[dependant], (dependency, relation))))
        return True

    def _link(self, dependant: str, dependency: str) -> None:
        if dependant not in self.down[dependency]:
            self.down[dependency] = tuple(sorted((*self.down[dependency], dependant)))

    def remove_edge(self, dependant: str, relation: str, dependency: str) -> bool:
        """Remove an edge; return whether it was there."""
        outs = self.up.get(dependant, ())
        if (dependency, relation) not in outs:
            return False
        left = tuple(out for out in outs if out != (dependency, relation))
        self.up[dependant] = left
        silent = {rel in self.silent for to, rel in left if to == dependency}
        if True not in silent and dependency in self.silent_down:
            self.silent_down[dependency].discard(dependant)
        if False not in silent:
            self.down[dependency] = tuple(a for a in self.down[dependency] if a != dependant)
        return True

    def move_edge(self, dependant: str, relation: str, dependency: str) -> list[Edge]:
        """Make the edge the only one of its relation and target kind.

        Returns the edges removed or added, sorted removals first; empty when nothing changed or
        where the new edge would close a cycle (the old ones then stay).
        """
        kind = kind_of(dependency)
        old = [
            (dependant, rel, to)
            for to, rel in self.up.get(dependant, ())
            if rel == relation and kind_of(to) == kind and to != dependency
        ]
        if not old and (dependency, relation) in self.up.get(dependant, ()):
            return []
        for _, rel, to in old:
            self.remove_edge(dependant, rel, to)
        present = (dependency, relation) in self.up.get(dependant, ())
        if not present and not self.add_edge(dependant, relation, dependency):
            for _, rel, to in old:
                self.add_edge(dependant, rel, to)
            return []
        return [*old, (dependant, relation, dependency)]

    def _reaches(self, start: str, goal: str) -> bool:
        if start == goal:
            return True
        if not self.down.get(goal):
            return False
        seen = {start}
        waiting = deque([start])
        while waiting:
            for node in self.dependencies(waiting.popleft()):
                if node == goal:
                    return True
                if node not in seen:
                    seen.add(node)
                    waiting.append(node)
        return False

    def heals(self, entity: str) -> bool:
        """Claim that an event may prove an edge of the entity."""
        return bool(self._healing) and kind_of(entity) in self._healing

    def healing_parents(self, event: Event) -> list[Edge]:
        """Return edges that an event proves for its entity: what it names goes before who tells."""
        found: dict[str, Edge] = {}
        for rule in self._healing.get(kind_of(event.entity), ()):
            parent = _named(rule, event) if rule.attr else self._teller_at(rule, event)
            if parent is not None and rule.relation not in found:
                found[rule.relation] = event.entity, rule.relation, parent
        return list(found.values())

    def _teller_at(self, rule: HealingRule, event: Event) -> str | None:
        """Return what a teller runs on, if only who is there could tell."""
        if event.signal not in rule.signals:
            return None
        teller = (event.source or "").partition("/")[0]
        edges = self.up.get(teller)
        if edges is None or kind_of(teller) != rule.by:
            return None
        known, place = self._places.get((teller, rule.to), (None, None))
        if known is not edges:  # An edit makes a new tuple.
            places = [one for one in self.dependencies(teller) if kind_of(one) == rule.to]
            place = places[0] if len(places) == 1 else None
            self._places[teller, rule.to] = edges, place
        return place

    def neighbourhood(self, nodes: Iterable[str], hops: int, bound: int) -> set[str] | None:
        """Return all nodes within so many hops either way, or None when there are over `bound`."""
        found = {node for node in nodes if node in self.up}
        edge = sorted(found)
        for _ in range(hops):
            following: list[str] = []
            for node in edge:
                for near in (*self.dependencies(node), *self.down[node]):
                    if near not in found:
                        found.add(near)
                        following.append(near)
            if len(found) > bound:
                return None
            edge = following
        return found

    def graph(self) -> "nx.DiGraph[str]":
        """Return a networkx copy: nodes with `kind` and `redundant`, edges with `relation`."""
        graph: nx.DiGraph[str] = nx.DiGraph()
        for node in self.up:
            graph.add_node(node, kind=kind_of(node), redundant=node in self.redundant)
        for dependant, relation, dependency in self.edges():
            graph.add_edge(dependant, dependency, relation=relation)
        return graph

    def copy(self) -> "Topology":
        """Return an independent copy; O(nodes)."""
        twin = Topology(self.schema)
        twin.up, twin.down = dict(self.up), dict(self.down)
        twin.redundant_flags, twin.redundant = dict(self.redundant_flags), set(self.redundant)
        twin.kind_counts = Counter(self.kind_counts)
        twin.silent_down = {node: set(ends) for node, ends in self.silent_down.items()}
        return twin

    def document(self) -> dict[str, object]:
        """Return the neutral JSON form, sorted: the same graph gives the same bytes."""
        nodes: list[dict[str, object]] = []
        for node in sorted(self.up):
            flag = self.redundant_flags.get(node)
            nodes.append({"id": node} if flag is None else {"id": node, "redundant": flag})
        edges = [{"from": a, "relation": r, "to": b} for a, r, b in sorted(self.edges())]
        return {"nodes": nodes, "edges": edges}


def build(
    nodes: Iterable[tuple[str, bool | None]],
    edges: Iterable[Edge],
    schema: TopologySchema | None = None,
) -> tuple[Topology, ImportReport]:
    """Return the graph of a whole inventory, its cycles cut, and what was unusual.

    O(nodes + edges) where there is no cycle.
    """
    topology = Topology(schema)
    report = ImportReport()
    for node, redundant in nodes:
        topology.add_node(node, redundant=redundant)
    wanted = sorted(set(edges))
    report.cut_edges = _cuts(wanted, topology.silent)
    cut = set(report.cut_edges)
    _fill(topology, [edge for edge in wanted if edge not in cut])
    report.nodes, report.edges = len(topology), len(wanted) - len(cut)
    _count_unknown(topology, wanted, report)
    return topology, report


def _fill(topology: Topology, edges: list[Edge]) -> None:
    """Set all edges at once: one sort per node in place of one per edge."""
    up: dict[str, list[tuple[str, str]]] = {}
    down: dict[str, set[str]] = {}
    for dependant, relation, dependency in edges:
        topology.add_node(dependant)
        topology.add_node(dependency)
        up.setdefault(dependant, []).append((dependency, relation))
        inward = topology.silent_down if relation in topology.silent else down
        inward.setdefault(dependency, set()).add(dependant)
    for node, outs in up.items():
        topology.up[node] = tuple(sorted(outs))
    for node, dependants in down.items():
        topology.down[node] = tuple(sorted(dependants))


def from_document(document: Mapping[str, Any], schema: TopologySchema) -> Topology:
    """Return the graph that `Topology.document` described."""
    topology = Topology(schema)
    for node in document["nodes"]:
        topology.add_node(node["id"], redundant=node.get("redundant"))
    _fill(topology, [(edge["from"], edge["relation"], edge["to"]) for edge in document["edges"]])
    return topology


def _count_unknown(topology: Topology, edges: list[Edge], report: ImportReport) -> None:
    kinds = topology.schema.kinds
    relations = topology.schema.relations
    if kinds:
        report.unknown_kinds.update(k for k in map(kind_of, topology) if k not in kinds)
    if relations:
        report.unknown_relations.update(r for _, r, _ in edges if r not in relations)


def _weakness(edge: Edge) -> tuple[int, Edge]:
    relation = edge[1]
    known = relation in RELATION_STRENGTH
    return (RELATION_STRENGTH.index(relation) if known else len(RELATION_STRENGTH), edge)


def _cuts(edges: list[Edge], silent: frozenset[str]) -> list[Edge]:
    """Return the edges whose removal leaves no cycle: of each cycle found, the weakest."""
    graph: nx.DiGraph[str] = nx.DiGraph()
    relations: dict[tuple[str, str], list[Edge]] = {}
    for edge in edges:
        if edge[1] not in silent:
            graph.add_edge(edge[0], edge[2])
            relations.setdefault((edge[0], edge[2]), []).append(edge)
    cuts: list[Edge] = []
    parts = [graph.subgraph(c).copy() for c in nx.strongly_connected_components(graph)]
    for part in sorted(parts, key=lambda p: min(p.nodes)):
        cuts.extend(_cut_part(part, relations))
    return cuts


def _cut_part(part: "nx.DiGraph[str]", relations: dict[tuple[str, str], list[Edge]]) -> list[Edge]:
    cuts: list[Edge] = []

    def cut(cycle: list[tuple[str, str]]) -> None:
        weakest = max(cycle, key=lambda pair: max(_weakness(edge) for edge in relations[pair]))
        part.remove_edge(*weakest)
        cuts.extend(relations[weakest])

    # Both directions of a cable, as some inventories list them: many, and each found at once.
    for a, b in sorted((a, b) for a, b in part.edges if a < b and part.has_edge(b, a)):
        cut([(a, b), (b, a)])
    for _ in range(CUTS_MAX):
        try:
            cycle = nx.find_cycle(part)
        except nx.NetworkXNoCycle:
            return cuts
        cut([(step[0], step[1]) for step in cycle])
    for dependant, dependency in sorted(part.edges):
        if dependant >= dependency:
            cuts.extend(relations[dependant, dependency])
    return cuts


def short_form(
    tree: dict[str, object], kinds: tuple[str, ...] = ("host", "vm", "app")
) -> list[Edge]:
    """Return the edges of a test's short form: hosts hold VMs, VMs hold applications.

    >>> short_form({"h1": {"v1": ["a1"]}})
    [('vm:v1', 'hosted_by', 'host:h1'), ('app:a1', 'runs_on', 'vm:v1')]
    """
    edges: list[Edge] = []
    relation = {"vm": "hosted_by", "app": "runs_on"}
    for name, inner in tree.items():
        parent = f"{kinds[0]}:{name}"
        children = (
            inner if isinstance(inner, list) else list(inner) if isinstance(inner, dict) else []
        )
        for child in children:
            edges.append((f"{kinds[1]}:{child}", relation[kinds[1]], parent))
        if isinstance(inner, dict):
            edges.extend(short_form(inner, kinds[1:]))
    return edges

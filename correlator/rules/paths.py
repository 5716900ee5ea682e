"""Typed paths: kinds joined by dots, walked to dependants; ``^kind`` walks to dependencies.

A walk never returns to a node it has been on, and never passes *through* a redundancy group
unless every member of the group has been walked: a group fails only when all its members do.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from correlator.topology import Topology
from schemas.base import kind_of

_STEP = re.compile(r"^(\^?)(\*|[A-Za-z_][A-Za-z0-9_]*)(?:\(([A-Za-z_][A-Za-z0-9_]*)\))?$")
DEPTH_MAX = 8
"""Steps a path may have: each one multiplies the cost of a change of topology."""


@dataclass(frozen=True, slots=True)
class Step:
    """One step: up (to a dependency) or down, to one kind or ``*``, over one relation or any."""

    up: bool
    kind: str
    relation: str | None = None

    def __str__(self) -> str:
        """Return the step as rules write it."""
        relation = f"({self.relation})" if self.relation else ""
        return f"{'^' if self.up else ''}{self.kind}{relation}"


Path = tuple[Step, ...]


def parse_path(text: str) -> Path:
    """Return the steps of a path; ``self`` is none.

    >>> parse_path("^vm.nic")
    (Step(up=True, kind='vm', relation=None), Step(up=False, kind='nic', relation=None))
    """
    if text == "self":
        return ()
    steps = []
    for part in text.split("."):
        match = _STEP.match(part)
        if match is None:
            msg = f"{part!r} is no step of a path: write kind, ^kind, * or kind(relation)"
            raise ValueError(msg)
        steps.append(Step(up=bool(match[1]), kind=match[2], relation=match[3]))
    if len(steps) > DEPTH_MAX:
        msg = f"a path may have {DEPTH_MAX} steps, this one has {len(steps)}"
        raise ValueError(msg)
    return tuple(steps)


def path_text(path: Path) -> str:
    """Return a path as rules write it."""
    return ".".join(map(str, path)) or "self"


def _neighbours(topology: Topology, node: str, step: Step) -> Iterator[str]:
    near: Iterable[str]
    near = topology.dependencies(node) if step.up else topology.down.get(node, ())
    for other in near:
        if step.kind not in ("*", kind_of(other)):
            continue
        if step.relation is None or _joined(topology, node, other, step):
            yield other


def _joined(topology: Topology, node: str, other: str, step: Step) -> bool:
    dependant, dependency = (node, other) if step.up else (other, node)
    return (dependency, step.relation) in topology.up[dependant]


def walk(topology: Topology, root: str, path: Path) -> tuple[str, ...]:
    """Return the nodes at the end of a path, sorted and unique; () where there are none.

    Cost: the nodes walked over.
    """
    visited = {root}
    edge = [root]
    for step in path:
        following: dict[str, None] = {}
        for node in edge:
            if not step.up and node != root and _withstands(topology, node, visited):
                continue
            for other in _neighbours(topology, node, step):
                if other not in visited:
                    following[other] = None
        edge = sorted(following)
        visited.update(edge)
    return tuple(edge)


def _withstands(topology: Topology, node: str, affected: set[str]) -> bool:
    """Claim that a redundancy group still has a member that the walk has not touched."""
    if not topology.is_redundant(node):
        return False
    return any(member not in affected for member in topology.dependencies(node))


def starts(topology: Topology, end: str, path: Path, root_kind: str) -> Iterator[str]:
    """Yield nodes from which the path may lead to `end`: a superset, checked by a forward walk."""
    edge = {end: None}
    for position in range(len(path) - 1, -1, -1):
        step = path[position]
        kind_before = path[position - 1].kind if position else root_kind
        backwards = Step(up=not step.up, kind=kind_before, relation=step.relation)
        following: dict[str, None] = {}
        for node in edge:
            if step.kind in ("*", kind_of(node)):
                following.update(dict.fromkeys(_neighbours(topology, node, backwards)))
        edge = following
    for node in edge:
        if root_kind in ("*", kind_of(node)):
            yield node

"""Typed paths: kinds joined by dots, walked to dependants; ``^kind`` walks to dependencies.

``~kind`` walks either way, to what is near; not into or out of a hub.

A walk never returns to a node it has been on, and never passes *through* a redundancy group
unless every member of the group has been walked: a group fails only when all its members do.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from correlator.topology import Topology

_STEP = re.compile(r"^([\^~]?)(\*|[A-Za-z_][A-Za-z0-9_]*)(?:\(([A-Za-z_][A-Za-z0-9_]*)\))?$")
DEPTH_MAX = 8
"""Steps a path may have: each one multiplies the cost of a change of topology."""
NEAR_MAX = 32
"""A `~` step neither leaves nor enters an entity with more: through a hub all would be near."""


@dataclass(frozen=True, slots=True)
class Step:
    """One step: up (to a dependency), down or either way, to a kind or ``*``, over a relation."""

    up: bool
    kind: str
    relation: str | None = None
    either: bool = False
    prefix: str = field(init=False, repr=False, compare=False)
    """What the names of the kind begin with."""

    def __post_init__(self) -> None:
        """Work out the prefix once: walks ask for it at every node."""
        object.__setattr__(self, "prefix", f"{self.kind}:")

    def __str__(self) -> str:
        """Return the step as rules write it."""
        relation = f"({self.relation})" if self.relation else ""
        sign = "~" if self.either else "^" if self.up else ""
        return f"{sign}{self.kind}{relation}"


Path = tuple[Step, ...]


def parse_path(text: str) -> Path:
    """Return the steps of a path; ``self`` is none.

    >>> [step.up for step in parse_path("^vm.nic")]
    [True, False]
    """
    if text == "self":
        return ()
    steps = []
    for part in text.split("."):
        match = _STEP.match(part)
        if match is None:
            msg = f"{part!r} is no step of a path: write kind, ^kind, ~kind, * or kind(relation)"
            raise ValueError(msg)
        steps.append(Step(match[1] == "^", match[2], match[3], either=match[1] == "~"))
    if len(steps) > DEPTH_MAX:
        msg = f"a path may have {DEPTH_MAX} steps, this one has {len(steps)}"
        raise ValueError(msg)
    return tuple(steps)


def path_text(path: Path) -> str:
    """Return a path as rules write it."""
    return ".".join(map(str, path)) or "self"


def neighbours(topology: Topology, node: str, step: Step) -> Iterable[str]:
    """Return the nodes one step from a node."""
    near: Iterable[str]
    if step.either:
        around = (*topology.dependencies(node), *topology.down.get(node, ()))
        near = [] if _is_hub(topology, node) else [n for n in around if not _is_hub(topology, n)]
    else:
        near = topology.dependencies(node) if step.up else topology.down.get(node, ())
    if step.kind != "*":
        near = [other for other in near if other.startswith(step.prefix)]
    if step.relation is not None:
        near = [other for other in near if _joined(topology, node, other, step)]
    return near


def _is_hub(topology: Topology, node: str) -> bool:
    return len(topology.up.get(node, ())) + len(topology.down.get(node, ())) > NEAR_MAX


def _joined(topology: Topology, node: str, other: str, step: Step) -> bool:
    below = (other, step.relation) in topology.up.get(node, ())
    above = (node, step.relation) in topology.up.get(other, ())
    return (below or above) if step.either else below if step.up else above


def walk(topology: Topology, root: str, path: Path) -> tuple[str, ...]:
    """Return the nodes at the end of a path, sorted and unique; () where there are none.

    Cost: the nodes walked over.
    """
    visited = {root}
    edge = [root]
    for step in path:
        edge = onwards((topology, root), edge, visited, step, {})
        visited.update(edge)
    return tuple(edge)


def onwards(
    walk_of: tuple[Topology, str],
    edge: Iterable[str],
    visited: set[str],
    step: Step,
    near: dict[str, Iterable[str]],
) -> list[str]:
    """Return where one more step leads from the nodes at the end of a walk, sorted and unique.

    `walk_of` is the graph and where the walk began; `visited` holds all its nodes, the present end
    too; `near` keeps where this step leads from a node, for other walks.
    """
    topology, root = walk_of
    following: set[str] = set()
    is_down = not (step.up or step.either)
    for node in edge:
        may_withstand = is_down and node in topology.redundant and node != root
        if may_withstand and any(one not in visited for one in topology.dependencies(node)):
            continue
        found = near.get(node)
        if found is None:
            found = near[node] = tuple(neighbours(topology, node, step))
        following.update(found)
    return sorted(following - visited)


def backwards(path: Path, root_kind: str) -> Path:
    """Return the steps from the end of a path back to a root of a kind.

    >>> path_text(backwards(parse_path("^vm.nic"), "app"))
    '^vm.app'
    """
    kinds_before = [root_kind, *(step.kind for step in path)]
    steps = zip(path, kinds_before, strict=False)
    return tuple(
        Step(not step.up, kind, step.relation, either=step.either) for step, kind in steps
    )[::-1]

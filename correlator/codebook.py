"""Which fault shows which symptom where: signatures laid over the topology, on demand.

A *fault* is (signature index, entity). Its column says which entities each cell of the signature
addresses; `causes` turns that round. Both are worked out when first asked for and kept until an
edit of the topology nearby; so the cost of an event depends on its neighbourhood, never on the
size of the graph. Pure: a cache of (topology, rules), never part of a snapshot.
"""

from collections.abc import Callable, Collection, Container, Iterable, Iterator
from dataclasses import dataclass, field

from correlator.rules.paths import Path, Step, backwards, neighbours, onwards, walk
from correlator.rules.ruleset import RuleSet, SignatureSpec
from correlator.topology import Topology
from schemas.base import kind_of

Fault = tuple[int, str]
"""(index of the signature in the rule set, entity)."""
Walk = tuple[list[str], set[str]]
"""(the nodes at its end, all nodes on it)."""
Shows = tuple[int, str]
"""(signature, symptom)."""
Listing = dict[str, list[tuple[int, Path]]]
"""symptom → (signature, path) of each cell that lists it."""
Tellers = Callable[[tuple[str, str]], Collection[str]]
"""(symptom, entity) → those who see it, as entities."""

NEIGHBOURHOOD_MAX = 20_000
"""Nodes an edit may touch before everything is worked out anew instead."""
WALKS_MAX = 100
"""Entities whose walks are kept, for the signatures that share their beginnings."""
COLUMNS_MAX = 200_000
"""Entities whose columns are kept; beyond it all are dropped and come back on demand."""


def _nobody(_: tuple[str, str]) -> Collection[str]:
    return ()


@dataclass(slots=True)
class _Route:
    """The ways back to the roots of what shows a symptom that begin with the same step."""

    step: Step | None
    onward: dict[int, dict[int, None]] = field(default_factory=dict)
    """way on from there to the root → signatures that go that way."""
    known: dict[str, tuple[Fault, ...]] = field(default_factory=dict)
    """node after the first step → faults found from there: many entities share it."""


@dataclass(frozen=True, slots=True)
class Column:
    """What one fault shows: how many entities of each kind, and through which path."""

    totals: dict[tuple[int, str], int]
    """(cell, kind) → entities of the kind that the cell addresses."""
    reach: dict[str, tuple[int, ...]]
    """node → indices of the paths that lead to it, the shortest first."""


@dataclass(frozen=True, slots=True)
class _Layout:
    """A signature's cells by path: each path is walked once for all the cells that share it."""

    paths: tuple[Path, ...]
    cell_at: dict[tuple[int, str], int]
    """(index of path, symptom) → index of cell."""
    told_at: dict[tuple[int, str], int]
    """The same of cells whose path leads to those who alone see the symptom."""


def _layout(signature: SignatureSpec) -> _Layout:
    paths = sorted({cell.path for cell in signature.cells}, key=lambda path: (len(path), str(path)))
    layout = _Layout(tuple(paths), {}, {})
    for index, cell in reversed(list(enumerate(signature.cells))):
        cells = layout.told_at if cell.is_told else layout.cell_at
        cells.update(((paths.index(cell.path), symptom), index) for symptom in cell.symptoms)
    return layout


def _listed(rules: RuleSet, *, is_told: bool) -> Listing:
    listing: Listing = {}
    for index, signature in enumerate(rules.signatures):
        for cell in signature.cells:
            for symptom in cell.symptoms if cell.is_told == is_told else ():
                listing.setdefault(symptom, []).append((index, cell.path))
    return listing


def _largest_p(rules: RuleSet) -> dict[Shows, float]:
    """Return (signature, symptom) → the largest p of its cells."""
    largest: dict[Shows, float] = {}
    for index, signature in enumerate(rules.signatures):
        for cell in signature.cells:
            for symptom in cell.symptoms:
                largest[index, symptom] = max(largest.get((index, symptom), 0.0), cell.p)
    return largest


class Codebook:
    """Columns and causes of one topology under one rule set."""

    def __init__(self, topology: Topology, rules: RuleSet) -> None:
        self.topology = topology
        self.rules = rules
        self._layouts = [_layout(signature) for signature in rules.signatures]
        self._numbers: dict[Path, int] = {(): 0}
        self._beginnings: list[tuple[int, Step]] = [(0, Step(up=False, kind="*"))]
        """number of a path → that of the path without its last step, and that step"""
        self._walked = [[self._number(path) for path in one.paths] for one in self._layouts]
        self._walks: dict[str, dict[int, Walk]] = {}
        self._refuting: dict[Fault, tuple[tuple[str, str, int], ...]] = {}
        self._ways: list[tuple[Step, int]] = [(Step(up=False, kind="*"), 0)]
        """number of a way back → its first step, and the number of the way on from there"""
        self._way_numbers: dict[Path, int] = {(): 0}
        self._led: dict[int, dict[str, Iterable[str]]] = {}
        """way back → node → where it leads from there"""
        self._near: dict[Step, dict[str, Iterable[str]]] = {}
        """step → node → where it leads from there; what all walks share"""
        self._addressed: dict[tuple[int, tuple[int, ...]], tuple[int, ...]] = {}
        """(signature, paths that lead to a node) → cells that address it"""
        self._listing = _listed(rules, is_told=False)
        self._telling = _listed(rules, is_told=True)
        """The same of cells whose path leads to those who alone see it."""
        self.largest_p = _largest_p(rules)
        self._routes: dict[tuple[str, str, bool], list[_Route]] = {}
        """(symptom, kind it is seen on, or kind of who sees it) → ways back; on demand."""
        shown = [len(cell.path) for s in rules.signatures for cell in s.cells]
        claimed = [len(claim.path) for s in rules.signatures for claim in s.where]
        # An edit may make or unmake a root as far away as its `where` looks, and with the root
        # the causes of all that it shows, as far again.
        self._hops = max(shown, default=0) + max(claimed, default=0) + 1
        self._columns: dict[str, dict[int, Column | None]] = {}
        self._causes: dict[str, dict[tuple[str, bool], tuple[Fault, ...]]] = {}

    def column(self, fault: Fault) -> Column | None:
        """Return what a fault shows, or None where the entity cannot have it."""
        index, entity = fault
        known = self._columns.get(entity)
        if known is None:
            if len(self._columns) >= COLUMNS_MAX:
                self._columns.clear()
                self._forget_near()
                self._refuting.clear()
            known = self._columns[entity] = {}
        if index not in known:
            known[index] = self._work_out(index, entity)
        return known[index]

    def _work_out(self, index: int, entity: str) -> Column | None:
        signature = self.rules.signatures[index]
        if entity not in self.topology or signature.root not in ("*", kind_of(entity)):
            return None
        if not all(claim.holds(self.topology, entity) for claim in signature.where):
            return None
        reach: dict[str, tuple[int, ...]] = {}
        if entity not in self._walks and len(self._walks) >= WALKS_MAX:
            self._walks.clear()
        walks = self._walks.setdefault(entity, {})
        for number, path in enumerate(self._walked[index]):
            for node in self._reached(entity, path, walks)[0]:
                known = reach.get(node)
                reach[node] = (number,) if known is None else (*known, number)
        return Column(self._totals(index, reach), reach)

    def _reached(self, entity: str, number: int, walks: dict[int, Walk]) -> Walk:
        """Return the end of a walk and all nodes on it; what walks share is walked once."""
        if number not in walks:
            if number:
                before, step = self._beginnings[number]
                edge, visited = self._reached(entity, before, walks)
                near = self._near.setdefault(step, {})
                edge = onwards((self.topology, entity), edge, visited, step, near)
                walks[number] = edge, visited.union(edge)
            else:
                walks[number] = [entity], {entity}
        return walks[number]

    def _number(self, path: Path) -> int:
        """Return the number of a path, the same in all signatures; of the empty one it is 0."""
        if path not in self._numbers:
            before = self._number(path[:-1])
            self._numbers[path] = len(self._beginnings)
            self._beginnings.append((before, path[-1]))
        return self._numbers[path]

    def _totals(self, index: int, reach: dict[str, tuple[int, ...]]) -> dict[tuple[int, str], int]:
        """Count, for each cell, the nodes that it rather than a shorter one addresses."""
        shapes: dict[tuple[str, tuple[int, ...]], int] = {}
        for node, numbers in reach.items():
            shape = node.partition(":")[0], numbers
            shapes[shape] = shapes.get(shape, 0) + 1
        totals: dict[tuple[int, str], int] = {}
        for (kind, numbers), count in sorted(shapes.items()):
            for cell in self._cells_of(index, numbers):
                totals[cell, kind] = totals.get((cell, kind), 0) + count
        return totals

    def _cells_of(self, index: int, numbers: tuple[int, ...]) -> tuple[int, ...]:
        """Return the cells that address a node reached over these paths, each symptom once."""
        known = self._addressed.get((index, numbers))
        if known is None:
            first: dict[str, int] = {}
            for number in numbers:
                for (at, symptom), cell in self._layouts[index].cell_at.items():
                    if at == number:
                        first.setdefault(symptom, cell)
            known = self._addressed[index, numbers] = tuple(dict.fromkeys(first.values()))
        return known

    def cell_of(
        self, fault: Fault, symptom: str, entity: str, tellers: Collection[str] = ()
    ) -> int | None:
        """Return the cell through which a fault shows a symptom on an entity, if it does."""
        cells = self.cells_of(fault, ((symptom, entity),), lambda _: tellers)
        return next((cell for _, cell in cells), None)

    def cells_of(
        self, fault: Fault, keys: Iterable[tuple[str, str]], tellers: Tellers = _nobody
    ) -> Iterator[tuple[tuple[str, str], int]]:
        """Yield those of some (symptom, entity) that a fault shows, each with its cell."""
        column = self.column(fault)
        reach = column.reach if column else {}
        layout = self._layouts[fault[0]]
        for key in keys:
            for number in reach.get(key[1], ()):
                cell = layout.cell_at.get((number, key[0]))
                if cell is not None:
                    yield key, cell
                    break
            else:
                cell = self._told_cell(layout, reach, key[0], tellers(key)) if reach else None
                if cell is not None:
                    yield key, cell

    def _told_cell(
        self,
        layout: _Layout,
        reach: dict[str, tuple[int, ...]],
        symptom: str,
        tellers: Collection[str],
    ) -> int | None:
        """Return the cell that addresses all who see a symptom, if there is one."""
        for number, one in layout.told_at:
            if one == symptom and tellers and all(number in reach.get(t, ()) for t in tellers):
                return layout.told_at[number, one]
        return None

    def is_told(self, symptom: str) -> bool:
        """Claim that who sees a symptom may be the reason why it is seen."""
        return symptom in self._telling

    def causes(self, symptom: str, entity: str, tellers: Collection[str] = ()) -> tuple[Fault, ...]:
        """Return every fault that may show a symptom on an entity, sorted.

        A fault of those who alone see it counts: who is cut off misses everybody else. It is found
        by walking back, which knows neither redundancy groups nor `where`: `cell_of` has the last
        word, and is asked only of faults that are worth a column.
        """
        shown = self._known_causes(symptom, entity, is_told=False)
        if not tellers or symptom not in self._telling:
            return shown
        told = (set(self._known_causes(symptom, one, is_told=True)) for one in tellers)
        return tuple(sorted({*shown, *set.intersection(*told)}))

    def _known_causes(self, symptom: str, entity: str, *, is_told: bool) -> tuple[Fault, ...]:
        known = self._causes.get(entity)
        if known is None:
            if len(self._causes) >= COLUMNS_MAX:
                self._causes.clear()
                self._forget_routes()
            known = self._causes[entity] = {}
        if (symptom, is_told) not in known:
            known[symptom, is_told] = self._find_causes(symptom, entity, is_told=is_told)
        return known[symptom, is_told]

    def _find_causes(self, symptom: str, entity: str, *, is_told: bool) -> tuple[Fault, ...]:
        found: set[Fault] = set()
        for route in self._routes_to(symptom, kind_of(entity), is_told=is_told):
            step = route.step
            for near in neighbours(self.topology, entity, step) if step else (entity,):
                faults = route.known.get(near)
                if faults is None:
                    faults = route.known[near] = self._beyond(route, near)
                found.update(faults)
        return tuple(sorted(found))

    def _beyond(self, route: _Route, near: str) -> tuple[Fault, ...]:
        """Return the faults to which a route leads from the node after its first step."""
        return tuple(
            (index, root)
            for way, indices in route.onward.items()
            for root in self._roots(near, way)
            for index in indices
        )

    def _roots(self, node: str, way: int) -> Iterable[str]:
        """Return where a way back leads from a node; many entities share what is beyond it."""
        if not way:
            return (node,)
        known = self._led.setdefault(way, {})
        if node not in known:
            step, onward = self._ways[way]
            nearby = neighbours(self.topology, node, step)
            found = [self._roots(near, onward) for near in nearby]
            known[node] = found[0] if len(found) == 1 else tuple(set().union(*found))
        return known[node]

    def _way(self, back: Path) -> int:
        """Return the number of a way back, the same in all signatures; of none it is 0."""
        if back not in self._way_numbers:
            onward = self._way(back[1:])
            self._way_numbers[back] = len(self._ways)
            self._ways.append((back[0], onward))
        return self._way_numbers[back]

    def _routes_to(self, symptom: str, kind: str, *, is_told: bool) -> list[_Route]:
        known = self._routes.get((symptom, kind, is_told))
        if known is None:
            routes: dict[Step | None, _Route] = {}
            listing = self._telling if is_told else self._listing
            for index, path in listing.get(symptom, ()):
                root_kind = self.rules.signatures[index].root
                if (path[-1].kind if path else root_kind) in ("*", kind):
                    back = backwards(path, root_kind)
                    step = back[0] if back else None
                    onward = routes.setdefault(step, _Route(step)).onward
                    onward.setdefault(self._way(back[1:]), {})[index] = None
            known = self._routes[symptom, kind, is_told] = list(routes.values())
        return known

    def refuting(self, fault: Fault) -> tuple[tuple[str, str, int], ...]:
        """Return each (symptom, entity) that refutes a fault, with how fresh it must be, µs."""
        if fault not in self._refuting:
            self._refuting[fault] = tuple(
                (one.symptom, node, one.fresh_us)
                for one in self.rules.signatures[fault[0]].refuted_by
                for node in walk(self.topology, fault[1], one.path)
            )
        return self._refuting[fault]

    def missing(
        self, fault: Fault, seen: Container[tuple[str, str]], bound: int
    ) -> dict[int, list[str]]:
        """Return up to `bound` entities that each cell addresses and nothing of it is seen on.

        In the order of the paths, sorted along each; all are asked only where fewer are missing.
        """
        column = self.column(fault)
        cells = self.rules.signatures[fault[0]].cells
        absent: dict[int, list[str]] = {}
        wanted = {cell for cell, _ in column.totals} if column else set()
        for node, numbers in column.reach.items() if column else ():
            for cell in self._cells_of(fault[0], numbers):
                if cell in wanted and not any((one, node) in seen for one in cells[cell].symptoms):
                    named = absent.setdefault(cell, [])
                    named.append(node)
                    if len(named) >= bound:
                        wanted.discard(cell)
            if not wanted:
                break
        return absent

    def _forget_near(self) -> None:
        self._near.clear()
        self._led.clear()

    def _forget_routes(self) -> None:
        for routes in self._routes.values():
            for route in routes:
                route.known.clear()

    def forget(self, nodes: Iterable[str]) -> set[str] | None:
        """Drop what an edit at these nodes may have changed.

        Returns the entities concerned, or None when everything was dropped.
        """
        self._walks.clear()
        self._refuting.clear()
        self._forget_routes()
        near = self.topology.neighbourhood(nodes, self._hops, NEIGHBOURHOOD_MAX)
        if near is None:
            self._columns.clear()
            self._causes.clear()
            self._forget_near()
            return None
        near.update(nodes)
        for node in near:
            self._columns.pop(node, None)
            self._causes.pop(node, None)
        for table in (*self._near.values(), *self._led.values()):
            for node in table.keys() & near:
                del table[node]
        return near

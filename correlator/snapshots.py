"""Snapshots of a domain: written slice by slice while the fold goes on, and read back.

A `Cut` is what was remembered at one offset. What the core replaces is copied at the cut; what it
changes in place is written down just before it is first handed out again. Pure: shells store the
lines. Keeps: the lines of a cut are those of the moment of the cut, whatever is folded meanwhile.
"""

import json
from collections import deque
from collections.abc import Iterable, Iterator, MutableMapping
from dataclasses import MISSING, asdict, dataclass, fields, is_dataclass
from itertools import islice
from typing import Any

import orjson

from correlator.live import Fold
from correlator.state import EngineState, restore
from schemas.topology import TopologySchema

SLICE_ROWS = 256
"""Rows written at a time: under a millisecond at 2 µs a sighting."""
CHANGED_IN_PLACE = ("sightings", "windows", "overtaking", "incidents", "ended", "sessions")
"""Tables whose values the core changes; those of all others it replaces."""
KEYED = ("sightings", "windows", "alive", "overtaking")
"""Tables whose keys are pairs."""
HEAD = "head"
"""The line of all that is no table."""
DOUBLES, NODES = "doubles", "nodes"


class Cut:
    """What is remembered of a domain at one offset; `lines` yields it, `close` ends it."""

    def __init__(self, fold: Fold, slice_rows: int = SLICE_ROWS) -> None:
        self._slice_rows = slice_rows
        state = self._state = fold.engine.state
        self.offset = fold.next_offset
        """Of the first record that is not in it."""
        self.domain, self.epoch, self.rules = state.domain, state.epoch, state.rules_hash
        self.log_generation = state.log_generation
        self._guards: dict[str, Guarded] = {}
        # A copy of a table costs a twentieth of the list of its rows; that is made slice by slice.
        self._copies: list[tuple[str, Iterable[Any]]] = [
            (NODES, state.topology.up.copy().items()),
            (DOUBLES, fold.doubles.rows()),
        ]
        head: dict[str, Any] = {"flags": dict(state.topology.redundant_flags)}
        head["believed"] = None if fold.verifier is None else fold.verifier.document()
        for field in fields(state):
            self._take(field.name, getattr(state, field.name), head)
        self._head = _line(HEAD, [head])

    def _take(self, name: str, value: Any, head: dict[str, Any]) -> None:  # noqa: ANN401
        if name in CHANGED_IN_PLACE:
            self._guards[name] = Guarded(value)
            setattr(self._state, name, self._guards[name])
        elif isinstance(value, dict):
            self._copies.append((name, value.copy().items()))
        elif isinstance(value, set | list):
            self._copies.append((name, value.copy()))
        elif name != "topology":
            head[name] = value

    def lines(self) -> Iterator[bytes]:
        """Yield the snapshot in slices; between two of them the fold may go on."""
        yield self._head
        for name, guard in self._guards.items():
            while some := guard.slice(self._slice_rows):
                yield _line(name, some)
        for name, copy in self._copies:
            rows = iter(copy)
            while some := list(islice(rows, self._slice_rows)):
                yield _line(name, some)

    def close(self) -> None:
        """Give the tables back to the state, whether all of them was written or not."""
        for name, guard in self._guards.items():
            setattr(self._state, name, guard.table)
        self._guards = {}


class Guarded(MutableMapping[Any, Any]):
    """A table during a cut: a row is written down before it is first handed out."""

    def __init__(self, table: dict[Any, Any]) -> None:
        self.table = table
        self._left = dict(table)
        """Rows as they are since the cut, still to be written."""
        self._written: list[Any] = []

    def __getitem__(self, key: Any) -> Any:  # noqa: ANN401 - any table of the state
        self._write(key)
        return self.table[key]

    def __setitem__(self, key: Any, value: Any) -> None:  # noqa: ANN401
        self.table[key] = value

    def __delitem__(self, key: Any) -> None:  # noqa: ANN401
        del self.table[key]

    def __contains__(self, key: object) -> bool:
        return key in self.table

    def __iter__(self) -> Iterator[Any]:
        return iter(self.table)

    def __len__(self) -> int:
        return len(self.table)

    def _write(self, key: Any) -> None:  # noqa: ANN401
        row = self._left.pop(key, None)
        if row is not None:
            self._written.append([key, orjson.Fragment(_json(row))])

    def slice(self, rows_max: int) -> list[Any]:
        """Return rows not returned before; none when there are no more."""
        for key in list(islice(self._left, max(0, rows_max - len(self._written)))):
            self._write(key)
        some, self._written = self._written[:rows_max], self._written[rows_max:]
        return some


def _line(name: str, rows: list[Any]) -> bytes:
    return _json([name, rows])


def _json(value: Any) -> bytes:  # noqa: ANN401
    try:
        return orjson.dumps(value, default=_plain)
    except TypeError:  # An integer of more than 64 bits: whoever sends one must not stop us.
        return json.dumps(value, default=_plain, separators=(",", ":")).encode()


def _plain(value: Any) -> Any:  # noqa: ANN401
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    if isinstance(value, deque):
        return list(value)
    raise TypeError(type(value).__name__)


# ---- read back -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Restored:
    """What a snapshot holds."""

    state: EngineState
    doubles: list[tuple[str, str, int]]
    believed: dict[str, Any] | None
    """What its verifier remembered; None where nothing was verified."""


def restored(lines: Iterable[bytes], schema: TopologySchema) -> Restored:
    """Return what the lines of a cut describe: the state as `state.restore` makes it."""
    tables: dict[str, list[Any]] = {}
    for line in lines:
        name, rows = json.loads(line)
        tables.setdefault(name, []).extend(rows)
    (head,) = tables.pop(HEAD)
    nodes, doubles = tables.pop(NODES, []), tables.pop(DOUBLES, [])
    document = _topology(nodes, head.pop("flags"))
    believed = head.pop("believed")
    for field in fields(EngineState):
        if field.default_factory is not MISSING:
            rows = tables.get(field.name, [])
            head[field.name] = _table(field.name, field.default_factory(), rows)
    state = restore({**head, "topology": document}, schema)
    return Restored(state, [(source, boot, number) for source, boot, number in doubles], believed)


def _table(name: str, empty: Any, rows: list[Any]) -> Any:  # noqa: ANN401
    """Return a table as the canonical document of a state has it."""
    if name in KEYED:
        return sorted([*key, value] for key, value in rows)
    if isinstance(empty, dict):
        return dict(rows)
    if name == "deadlines":
        return sorted({tuple(row) for row in rows})
    return rows


def _topology(nodes: list[Any], flags: dict[str, bool]) -> dict[str, Any]:
    listed = [
        {"id": node, "redundant": flags[node]} if node in flags else {"id": node}
        for node, _ in sorted(nodes)
    ]
    edges = sorted((node, relation, to) for node, outs in nodes for to, relation in outs)
    return {
        "nodes": listed,
        "edges": [{"from": a, "relation": relation, "to": b} for a, relation, b in edges],
    }

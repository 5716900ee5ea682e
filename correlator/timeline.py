"""The time lines of rule tests: lines of text become the inputs of a log.

``TIME [+LATE] [clear] SIGNAL ENTITY… [NAME=VALUE…]``; a signal ``VERB.confirmed`` (or failed,
rejected, timed_out, unknown) is what an actuator answers. Called by the runner of rule tests.
"""

import re
from dataclasses import dataclass, field
from typing import Any, get_args

from ruamel.yaml import YAML

from schemas.base import MICROSECONDS_PER_SECOND, is_entity, parse_duration
from schemas.inputs import Event
from schemas.outputs import Verb

START_US = 1_767_225_600_000_000
"""Log time of 0 s in every time line: 2026-01-01T00:00:00Z."""
OUTCOMES = {
    "confirmed": "CONFIRMED",
    "failed": "FAILED",
    "rejected": "REJECTED",
    "timed_out": "TIMED_OUT",
    "unknown": "UNKNOWN",
}
"""Last word of a result line → state of the result."""
_ATTRIBUTE = re.compile(r"^([A-Za-z_][A-Za-z0-9_.]*)=(.*)$")
_OWN_FIELDS = ("source", "severity")


@dataclass(frozen=True, slots=True)
class Line:
    """One line: what is said of some entities, and when it arrives."""

    number: int
    """Counts from 0, in the text."""
    at_us: int
    """Time of the fact, microseconds since 0 s."""
    arrives_us: int
    """Time in the log, microseconds since 0 s; `at_us` plus the lateness."""
    signal: str
    entities: tuple[str, ...]
    clears: bool = False
    attrs: dict[str, Any] = field(default_factory=dict)

    @property
    def result(self) -> tuple[str, str] | None:
        """Return (verb, state of the result) where the line is an actuator's answer."""
        verb, _, outcome = self.signal.partition(".")
        if verb in get_args(Verb) and outcome in OUTCOMES:
            return verb, OUTCOMES[outcome]
        return None

    def events(self) -> list[Event]:
        """Return the events the line stands for, one per entity, with ids of their own.

        Unless a line names its source, each entity is watched by an observer of its own that
        stands on nothing of the topology.
        """
        own = {name: str(self.attrs[name]) for name in _OWN_FIELDS if name in self.attrs}
        attrs = {name: value for name, value in self.attrs.items() if name not in _OWN_FIELDS}
        return [
            Event(
                event_id=f"line {self.number} {entity}",
                entity=entity,
                signal=self.signal,
                state="cleared" if self.clears else "raised",
                attrs=attrs,
                **{"source": f"watch:{entity}", **own},  # type: ignore[arg-type]
            )
            for entity in self.entities
        ]


def parse_timeline(text: str) -> tuple[list[Line], list[tuple[int, str]]]:
    """Return the lines in written order, and (number, what is wrong) of those that are none.

    >>> lines, faults = parse_timeline("2s +1s os.hb.lost host:h1 plane=mgmt")
    >>> lines[0].arrives_us, lines[0].entities, lines[0].attrs, faults
    (3000000, ('host:h1',), {'plane': 'mgmt'}, [])
    """
    lines: list[Line] = []
    faults: list[tuple[int, str]] = []
    for number, written in enumerate(text.splitlines()):
        words = written.split("#")[0].split()
        if not words:
            continue
        try:
            lines.append(_line(number, words))
        except ValueError as error:
            faults.append((number, str(error)))
    return lines, faults


def _line(number: int, words: list[str]) -> Line:
    at_us = _microseconds(words.pop(0))
    late_us = _microseconds(words.pop(0)[1:]) if words and words[0].startswith("+") else 0
    clears = bool(words) and words[0] == "clear"
    rest = words[1:] if clears else words
    pairs = [_ATTRIBUTE.match(word) for word in rest[1:]]
    entities = tuple(word for word, pair in zip(rest[1:], pairs, strict=True) if pair is None)
    bad = [entity for entity in entities if not is_entity(entity)]
    if not rest or not entities or bad:
        said = f"{bad[0]!r} is no entity" if bad else "a signal and an entity are missing"
        msg = f"{said}: write TIME [+LATE] [clear] SIGNAL ENTITY… [NAME=VALUE…]"
        raise ValueError(msg)
    attrs = {pair[1]: YAML(typ="safe").load(pair[2]) for pair in pairs if pair}
    return Line(number, at_us, at_us + late_us, rest[0], entities, clears, attrs)


def _microseconds(text: str) -> int:
    return round(parse_duration(text) * MICROSECONDS_PER_SECOND)

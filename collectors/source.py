"""What a source is, and what it promises to the runner and to the log.

A source is one async generator function of inputs. It knows neither the log nor other sources, and
what it tells holds for itself:

1. A change is told once: an `Event` when a fact begins, ends or is told with other attributes.
2. All raised facts are told as a `Level` first of all, then every `level_s`, and when a change may
   have been missed. They are read from the world anew each time, so a lost edge heals, and who
   starts again lists what stands.
3. Nothing in it grows without bound. Where the runner is slow it waits; what it misses meanwhile
   comes with the next list.
4. What it cannot read of one thing costs that thing alone. Where it cannot go on it raises, and is
   started again.

`tests/collectors/contract.py` puts every source through these.
"""

import time
from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from schemas.base import EntityId
from schemas.inputs import Event, Fact, Input, Level

LEVEL_S = 5.0
"""How often a source lists what stands: the design's "every few seconds"."""
LEVEL_FACTS_MAX = 5_000
"""Facts of one list: with 150 bytes each it stays under the 1 MiB of a message."""

Clock = Callable[[], datetime]
Attributes = Mapping[str, Any]
Raised = Mapping[tuple[EntityId, str], Attributes]
"""What stands: (entity, signal) → attributes."""


def now() -> datetime:
    """Return this machine's time."""
    return datetime.fromtimestamp(time.time(), UTC)


@dataclass(frozen=True)
class Context:
    """What a source is told of where it runs."""

    observer: EntityId
    """Who tells, e.g. collector:compute-3."""
    name: str
    """Of the source, e.g. link."""
    clock: Clock = now
    level_s: float = LEVEL_S
    sources_ok: Callable[[], list[str]] = field(default=lambda: [])
    """Which sources of the same collector do their work now."""

    @property
    def source(self) -> str:
        """What its inputs name as their source, e.g. collector:compute-3/link."""
        return f"{self.observer}/{self.name}"


Source = Callable[[Context], AsyncGenerator[Input, None]]


class Facts:
    """What a source has told to stand; makes events of what differs from it, and lists of it."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._stands: dict[str, dict[tuple[str, str], Fact]] = {}
        """Part of the world → its facts; a part is what is read at once, such as one card."""
        self._boot = f"{context.source}/{time.time_ns()}"
        self._told = 0

    def differ(self, part: str, raised: Raised) -> list[Event]:
        """Return what has begun, changed or ended now that this is all that stands of a part."""
        at = self._context.clock()
        before = self._stands.get(part, {})
        after = {
            key: before[key]
            if key in before and before[key].attrs == attrs
            else Fact(entity=key[0], signal=key[1], since=at, attrs=dict(attrs))
            for key, attrs in raised.items()
        }
        if after:
            self._stands[part] = after
        else:
            self._stands.pop(part, None)
        events = [self._event(before[key], at, "cleared") for key in before if key not in after]
        news = [fact for key, fact in after.items() if before.get(key) is not fact]
        return events + [self._event(fact, at, "raised") for fact in news]

    def keep_only(self, parts: set[str]) -> list[Event]:
        """Return what has ended now that only these parts of the world are still there."""
        gone = [part for part in self._stands if part not in parts]
        return [event for part in gone for event in self.differ(part, {})]

    def level(self) -> list[Level]:
        """Return the list of all that stands; none where it is too long to be told whole.

        A list that left something out would say that it has ended.
        """
        facts = [fact for part in self._stands.values() for fact in part.values()]
        if len(facts) > LEVEL_FACTS_MAX:
            return []
        return [Level(source=self._context.source, facts=facts)]

    def _event(self, fact: Fact, at: datetime, state: Any) -> Event:  # noqa: ANN401 - a literal
        self._told += 1
        return Event(
            event_id=f"{self._boot}/{self._told}",
            entity=fact.entity,
            signal=fact.signal,
            state=state,
            at=at,
            source=self._context.source,
            attrs=fact.attrs,
        )

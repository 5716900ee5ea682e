"""What a site has said about a workload: its service level, its turn, and whether it may be moved.

Pure look-ups of the `settings` documents of a pack; the last document that speaks of an entity
wins, key by key. Called by guards and planner, and by `firstfault policy show`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from schemas.rules import Settings

PRIORITY = 5
"""Turn of what nobody has spoken of; 1 is first, 9 last."""
PRIORITIES = {"SAL1": 1, "SAL2": 5, "SAL3": 9}
"""Service availability level → turn (levels: ETSI GS NFV-REL 001)."""


@dataclass(frozen=True, slots=True)
class Effective:
    """What holds for one entity, and which documents say so."""

    entity: str
    sla: str | None
    priority: int
    recover: bool
    said_by: tuple[str, ...]
    """Names of the documents, in the order in which they were asked."""


def effective(settings: Sequence[Settings], entity: str) -> Effective:
    """Return what holds for an entity.

    >>> from schemas.rules import Settings
    >>> gold = Settings(kind="settings", name="gold", entities=["vm:db*"], sla="SAL1")
    >>> effective([gold], "vm:db-1").priority, effective([gold], "vm:web-1").priority
    (1, 5)
    """
    sla: str | None = None
    priority: int | None = None
    recover = True
    said_by = []
    for one in settings:
        if not any(fnmatchcase(entity, pattern) for pattern in one.entities):
            continue
        said_by.append(one.name)
        sla = one.sla or sla
        priority = one.priority or priority
        recover = recover if one.recover is None else one.recover
    turn = priority or PRIORITIES.get(sla or "", PRIORITY)
    return Effective(entity, sla, turn, recover, tuple(said_by))

"""What a site has said about its workloads, network functions and hosts.

Pure look-ups of the `settings` documents of a pack: what a class says (``sla:SAL1``) first, then
what is said of the entity itself; the last document that speaks wins, key by key. Called by guards,
placement and planner, and by `firstfault policy show`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

from schemas.rules import Capacity, Settings, Vnfm

PRIORITY = 5
"""Turn of what nobody has spoken of; 1 is first, 9 last."""
PRIORITIES = {"SAL1": 1, "SAL2": 5, "SAL3": 9}
"""Service availability level → turn (levels: ETSI GS NFV-REL 001)."""
MECHANISMS = ("restart", "rebuild", "evacuate", "live_migrate", "failover")
"""How a workload of which nobody says otherwise may be brought back: any way."""
KEYS = tuple(
    name for name in Settings.model_fields if name not in ("kind", "name", "text", "entities")
)
"""What a document may say, in the order in which it is shown."""


@dataclass(frozen=True, slots=True)
class Effective:
    """What holds for one entity, and which documents say so."""

    entity: str
    sla: str | None = None
    priority: int = PRIORITY
    recover: bool = True
    said_by: tuple[str, ...] = ()
    """Names of the documents, in the order in which they were asked."""
    mechanisms: tuple[str, ...] = MECHANISMS
    migration: str = "live"
    vnfm: Vnfm | None = None
    vcpus: int = 1
    affinity: tuple[str, ...] = ()
    anti_affinity: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    desired: int | None = None
    definition: str | None = None
    reserved_for: int | None = None
    capacity: Capacity | None = None
    carries: tuple[str, ...] = ()
    by: Mapping[str, str] = field(default_factory=dict, compare=False)
    """Key → the document whose word it is; a key that is not there has its default."""


class Book:
    """The settings of a rule set; what holds for an entity is worked out once."""

    def __init__(self, settings: Sequence[Settings]) -> None:
        self._settings = settings
        self._known: dict[str, Effective] = {}
        self.keys = frozenset(
            key for one in settings for key in KEYS if getattr(one, key) is not None
        )
        """The keys that any document speaks of: of the others nobody need ask."""

    def of(self, entity: str) -> Effective:
        """Return what holds for an entity."""
        found = self._known.get(entity)
        if found is None:
            found = self._known[entity] = effective(self._settings, entity)
        return found


def effective(settings: Sequence[Settings], entity: str) -> Effective:
    """Return what holds for an entity.

    >>> from schemas.rules import Settings
    >>> gold = Settings(kind="settings", name="gold", entities=["vm:db*"], sla="SAL1")
    >>> first = Settings(kind="settings", name="first", entities=["sla:SAL1"], migration="offline")
    >>> found = effective([gold, first], "vm:db-1")
    >>> found.priority, found.migration, effective([gold], "vm:web-1").priority
    (1, 'offline', 5)
    """
    own = _speaking(settings, entity)
    said, by = _last_words(own)
    general = _speaking(settings, f"sla:{said['sla']}") if "sla" in said else []
    if general:
        said, by = _last_words([*general, *own])
    if "sla" in said and "priority" not in said:
        said["priority"], by["priority"] = PRIORITIES[said["sla"]], by["sla"]
    if said.get("mechanisms") == ("none",):
        said |= {"recover": False, "mechanisms": ()}
    names = tuple(one.name for one in (*general, *own))
    return Effective(entity, said_by=names, by=by, **said)


def _speaking(settings: Sequence[Settings], name: str) -> list[Settings]:
    return [one for one in settings if any(fnmatchcase(name, p) for p in one.entities)]


def _last_words(documents: Sequence[Settings]) -> tuple[dict[str, Any], dict[str, str]]:
    """Return key → value, and key → name of the document, of what is said last."""
    said: dict[str, Any] = {}
    by: dict[str, str] = {}
    for one in documents:
        for key in KEYS:
            value = getattr(one, key)
            if value is not None:
                said[key] = tuple(value) if isinstance(value, list) else value
                by[key] = one.name
    return said, by

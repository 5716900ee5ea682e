"""A rule set as the engine uses it: flat, frozen, its strings parsed, its times in microseconds."""

from dataclasses import dataclass, field
from typing import Any

from correlator.rules.conditions import Bound, Structure
from correlator.rules.paths import Path
from schemas.rules import Knobs, Limits, Policy, RuleTest, ServiceLevels, Settings, SignalRule
from schemas.topology import TopologySchema

ANY_SIGNAL = "*"
"""In `match: {signal: "*"}`: every signal that no other symptom of the set names."""

CERTAIN_SPURIOUS = 1e-5
"""Chance of a symptom with no cause, up to which it is taken at its word: a kernel's, libvirt's."""
OTHER_OWNER = "ha.other_owner"
"""Symptom of a host that something else recovers, too; a guard reads it, no signature."""


@dataclass(frozen=True, slots=True)
class Location:
    """Where something stands in a file; line and column count from 1."""

    file: str
    line: int
    column: int

    def __str__(self) -> str:
        """Return ``file:line:column``."""
        return f"{self.file}:{self.line}:{self.column}"


@dataclass(frozen=True, slots=True, order=True)
class Fault:
    """One thing wrong with a rule file."""

    file: str
    line: int
    column: int
    code: str
    text: str
    severity: str = "error"

    def __str__(self) -> str:
        """Return ``file:line:column: severity [code] text``."""
        return f"{self.file}:{self.line}:{self.column}: {self.severity} [{self.code}] {self.text}"


class RuleFaults(Exception):  # noqa: N818 - it carries many faults, all located
    """A pack that was refused, with every fault found in it, in file order."""

    def __init__(self, faults: list[Fault]) -> None:
        self.faults = sorted(faults)
        super().__init__("\n".join(map(str, self.faults)))


@dataclass(frozen=True, slots=True)
class SymptomSpec:
    """Raw events → a named symptom."""

    name: str
    signals: tuple[str, ...] = ()
    states: tuple[str, ...] = ("raised",)
    severities: tuple[str, ...] = ()
    kinds: tuple[str, ...] = ()
    bounds: tuple[Bound, ...] = ()
    changes: int = 1
    window_us: int = 0
    quiet_us: int | None = None
    absent_signal: str | None = None
    absent_us: int = 0
    unless_symptom: str | None = None
    unless_path: Path = ()
    spurious: float = 1e-3
    gather_us: int | None = None
    """How long evidence is gathered before a look; None is as long as the pack says."""
    hard: bool = False
    """A fact of its own that no lost message can fake."""

    @property
    def is_certain(self) -> bool:
        """Claim that it is nearly never seen by chance: one look at it tells something."""
        return self.spurious <= CERTAIN_SPURIOUS


@dataclass(frozen=True, slots=True)
class CellSpec:
    """One thing to see when the root has failed."""

    symptoms: tuple[str, ...]
    path: Path
    p: float
    within_us: int
    optional: bool = False
    required: bool = False
    is_told: bool = False
    """The path leads to those who see it and are alone with it, on whatever entity."""


@dataclass(frozen=True, slots=True)
class RefutationSpec:
    """What cannot be seen when the root has failed."""

    symptom: str
    path: Path
    fresh_us: int


@dataclass(frozen=True, slots=True)
class SignatureSpec:
    """What a fault of a class looks like."""

    name: str
    root: str
    where: tuple[Structure, ...]
    prior: float
    cells: tuple[CellSpec, ...]
    refuted_by: tuple[RefutationSpec, ...]
    location: Location
    faults: tuple[str, ...] = ()
    wait_us: int | None = None
    """After the onset, before an incident opens; None is as long as the pack says."""
    required: frozenset[str] = frozenset()
    """Symptoms of which one must stand for the fault to be thought of."""


@dataclass(frozen=True, slots=True)
class LocatedTest:
    """A test document, with where it and its parts stand."""

    test: RuleTest
    locations: dict[str, Location]
    """path of a part, e.g. ``cases.0.expect.1`` (the document itself: empty) → where it stands"""


@dataclass(frozen=True)
class RuleSet:
    """All rules of one activation; `hash` names its content."""

    name: str
    version: str
    hash: str
    knobs: Knobs
    symptoms: dict[str, SymptomSpec]
    signatures: tuple[SignatureSpec, ...]
    policies: tuple[Policy, ...]
    schema: TopologySchema
    limits: Limits = field(default_factory=Limits)
    settings: tuple[Settings, ...] = ()
    levels: ServiceLevels = field(default_factory=ServiceLevels)
    """What was promised decides nothing: it is no part of `hash`."""
    signals: dict[str, SignalRule] = field(default_factory=dict)
    tests: tuple[LocatedTest, ...] = ()
    locations: dict[str, Location] = field(default_factory=dict)
    """``kind:name`` of a document → where it stands"""
    own: frozenset[str] = frozenset()
    """the documents of the pack itself, without those of packs it extends"""
    content: dict[str, Any] = field(default_factory=dict)

    @property
    def lateness_us(self) -> int:
        """How late an event may come, microseconds."""
        return round(self.knobs.lateness * 1e6)

"""The folder that ``replay --record`` writes: everything that was said, canonical and in order.

``META.json`` (which rules, how many of what; written last), ``outputs.jsonl`` (a `Said` a line),
``topology.json`` (the graph at the start), ``alarms.json`` (what each entity raised) and
``dead-letters.jsonl``. The same input gives the same bytes. Labels are never part of it.
"""

import json
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from pydantic import BaseModel, Field, ValidationError

from correlator.engine import Stamped
from correlator.importers import TopologyError, load_topology
from correlator.rules import RuleSet
from correlator.topology import Topology
from schemas.base import canonical, from_microseconds
from schemas.inputs import Event, Level
from schemas.outputs import Action, DeadLetter, Decision, Digest, Incident, Output

META = "META.json"
OUTPUTS = "outputs.jsonl"
TOPOLOGY = "topology.json"
ALARMS = "alarms.json"
DEAD_LETTERS = "dead-letters.jsonl"
SIGNALS_MAX = 20
"""Signals listed per entity; the rest only counts."""


class RecordedError(Exception):
    """A folder that holds no record of a replay, said in one sentence."""


class Said(BaseModel):
    """One output of the engine, and the input at which it was said."""

    case: str = Field("", description="independent case of the recording, mostly none")
    offset: int = Field(description="of the input in the log")
    index: int = Field(description="of the input in its frame")
    log_at: str = Field(description="log time of the input, RFC 3339")
    output: Incident | Decision | Action | Digest = Field(discriminator="type")

    def line(self) -> str:
        """Return the one JSON text of it."""
        return canonical(self.model_dump(mode="json", by_alias=True))


def said(case: str, record: Stamped, output: Output) -> Said:
    """Return an output with its place in the log."""
    return Said.model_construct(
        case=case,
        offset=record.offset,
        index=record.index,
        log_at=from_microseconds(record.log_us),
        output=output,
    )


@dataclass
class Alarms:
    """What one entity raised."""

    raised: int = 0
    signals: Counter[str] = field(default_factory=Counter)
    """signal → times raised, at most `SIGNALS_MAX` of them."""

    def count(self, signal: str) -> None:
        """Count one raised signal."""
        self.raised += 1
        if signal in self.signals or len(self.signals) < SIGNALS_MAX:
            self.signals[signal] += 1


class Recorder:
    """Writes a record; use it in a ``with`` statement, and call `finish` at the end.

    Until then there is no ``META.json``: a record that was broken off is no record.
    """

    def __init__(self, folder: Path, topology: Topology) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / META).unlink(missing_ok=True)
        self._folder = folder
        self._files = ExitStack()
        self._outputs = self._open(OUTPUTS)
        self._dead_letters = self._open(DEAD_LETTERS)
        self._alarms: dict[str, Alarms] = {}
        self._counts: Counter[str] = Counter()
        (folder / TOPOLOGY).write_text(canonical(topology.document()) + "\n", encoding="utf-8")

    def _open(self, name: str) -> IO[str]:
        return self._files.enter_context((self._folder / name).open("w", encoding="utf-8"))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._files.close()

    def hear(self, record: Stamped) -> None:
        """Count an input, and what it raises."""
        self._counts["inputs"] += 1
        given = record.input
        if isinstance(given, Event) and given.state == "raised":
            self._alarms.setdefault(given.entity, Alarms()).count(given.signal)
        elif isinstance(given, Level):
            for fact in given.facts:
                self._alarms.setdefault(fact.entity, Alarms()).count(fact.signal)

    def say(self, spoken: Said) -> None:
        """Write an output."""
        self._counts[spoken.output.type] += 1
        self._outputs.write(spoken.line() + "\n")

    def refuse(self, letter: DeadLetter) -> None:
        """Write what could not be read."""
        self._counts["dead_letter"] += 1
        self._dead_letters.write(canonical(letter.model_dump(mode="json")) + "\n")

    def finish(self, rules: RuleSet, log: str, domain: str) -> None:
        """Write what the record is of: with it the record is complete."""
        meta = {
            "firstfault": "record",
            "v": 1,
            "log": log,
            "domain": domain,
            "rules": {"name": rules.name, "version": rules.version, "hash": rules.hash},
            "counts": dict(self._counts),
        }
        alarms = {
            entity: {"raised": told.raised, "signals": dict(told.signals)}
            for entity, told in self._alarms.items()
        }
        (self._folder / ALARMS).write_text(canonical(alarms) + "\n", encoding="utf-8")
        text = json.dumps(meta, indent=1, sort_keys=True, ensure_ascii=False)
        (self._folder / META).write_text(text + "\n", encoding="utf-8")


@dataclass(frozen=True)
class Record:
    """A record read back."""

    meta: dict[str, Any]
    said: list[Said]
    topology: Topology
    alarms: dict[str, Alarms]

    def incidents(self) -> dict[str, list[Incident]]:
        """Return what was said of each incident, oldest first, by id, in order of opening."""
        found: dict[str, list[Incident]] = {}
        for spoken in self.said:
            if isinstance(spoken.output, Incident):
                found.setdefault(spoken.output.incident_id, []).append(spoken.output)
        return found

    def decisions(self) -> Iterator[Decision]:
        """Yield every decision in order."""
        return (s.output for s in self.said if isinstance(s.output, Decision))

    def actions(self) -> Iterator[Action]:
        """Yield every action in order."""
        return (s.output for s in self.said if isinstance(s.output, Action))


def read_outputs(path: Path) -> list[Said]:
    """Return the outputs of a record folder, or of an ``outputs.jsonl`` of one.

    Raises:
        RecordedError: where there are none, or a line of them is none.
    """
    file = path / OUTPUTS if path.is_dir() else path
    if not file.is_file():
        msg = f"{path}: no {OUTPUTS} there; `firstfault replay LOG --record OUT` writes one"
        raise RecordedError(msg)
    found = []
    with file.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            try:
                found.append(Said.model_validate_json(line))
            except ValidationError as error:
                reason = error.errors(include_url=False, include_input=False)[0]["msg"]
                msg = f"{file}:{number}: not an output of a replay: {reason}"
                raise RecordedError(msg) from None
    return found


def read_record(folder: Path) -> Record:
    """Return a whole record.

    Raises:
        RecordedError: where a part of it is missing or cannot be read.
    """
    spoken = read_outputs(folder)
    try:
        meta = json.loads((folder / META).read_text(encoding="utf-8"))
        told = json.loads((folder / ALARMS).read_text(encoding="utf-8"))
        topology, _ = load_topology(folder / TOPOLOGY)
        alarms = {e: Alarms(row["raised"], Counter(row["signals"])) for e, row in told.items()}
    except (OSError, ValueError, TypeError, KeyError, AttributeError, TopologyError) as error:
        msg = f"{folder}: not a whole record of a replay ({error})"
        raise RecordedError(msg) from error
    if not isinstance(meta, dict):
        msg = f"{folder / META}: not a mapping"
        raise RecordedError(msg)
    return Record(meta, spoken, topology, alarms)

"""A recording, its topology and a rule pack, opened together and played through the engine.

Called by the commands and by programs of users. It never reads labels, and it never raises for a
line that cannot be read: that becomes a dead letter, and the replay goes on.
"""

import gc
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

from correlator.engine import Engine, Stamped
from correlator.frames import activated
from correlator.importers import load_topology
from correlator.recorded import Said, said
from correlator.recording import Check, Recording, open_recording
from correlator.replay import cases, engine_for, fold
from correlator.rules import RuleSet, load_pack
from correlator.rules.bundle import rules_of
from correlator.topology import ImportReport, Topology
from firstfault.packs import find_pack
from schemas.base import parse_duration, to_microseconds
from schemas.inputs import SIGNED
from schemas.keys import KeySet
from schemas.outputs import DeadLetter

YOUNG_OBJECTS = 10_000
"""New objects between collections; at the default of 700 a large site is walked all the time."""
LETTERS_KEPT = 3
"""Dead letters kept to be shown; all are counted."""


def spare_collections() -> None:
    """Leave what was loaded out of garbage collection: it stays as long as the process.

    It changes the whole process, so a command does it and a library must not.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS, 200, 20)


@dataclass(frozen=True)
class Moment:
    """A log time, or a time after the first input.

    microseconds: since 1970, or since the first input.
    relative: which of the two.
    """

    microseconds: int
    relative: bool = False

    def after(self, first_us: int) -> int:
        """Return the log time, microseconds, in a recording that begins then."""
        return self.microseconds + first_us if self.relative else self.microseconds


def parse_moment(text: str) -> Moment:
    """Return the time that a person wrote: RFC 3339 (UTC where no zone is given), or ``+90s``.

    >>> parse_moment("+1.5m")
    Moment(microseconds=90000000, relative=True)
    >>> parse_moment("1970-01-01T00:00:01Z")
    Moment(microseconds=1000000, relative=False)
    """
    if text.startswith("+"):
        return Moment(round(parse_duration(text[1:]) * 1e6), relative=True)
    moment = datetime.fromisoformat(text)
    return Moment(to_microseconds(moment if moment.tzinfo else moment.replace(tzinfo=UTC)))


def _nothing(_: object) -> None:
    return None


@dataclass
class Listeners:
    """Who is told while a recording is played."""

    on_input: Callable[[Stamped], None] = _nothing
    on_dead_letter: Callable[[DeadLetter], None] = _nothing
    on_progress: Callable[[int], None] | None = None
    """Bytes of the file of events read so far."""


@dataclass
class Playback:
    """What is to be played, and after it what was met on the way."""

    recording: Recording
    topology: Topology
    rules: RuleSet
    report: ImportReport
    start: Moment | None = None
    end: Moment | None = None
    keys: tuple[KeySet, ...] = ()
    """Key sets known, the first active from the beginning; with none, nothing is checked."""
    unknown_rules: set[str] = field(default_factory=set)
    """Rule sets that commands name, and that are not with the recording: refused, as unknown."""
    read: int = 0
    """Inputs that could be read, believed or not."""
    inputs: int = 0
    """Those of them that were played: between `start` and `end`."""
    unchecked: int = 0
    """Inputs that count only with a signature, and were folded without a look at it."""
    dead_letters: int = 0
    letters: list[DeadLetter] = field(default_factory=list)
    spans: dict[str, tuple[float, float]] = field(default_factory=dict)
    """case → log time of its first and last input, seconds since 1970."""

    def outputs(self, listeners: Listeners | None = None) -> Iterator[Said]:
        """Yield everything the engine says, in order."""
        told = listeners or Listeners()

        def on_dead_letter(letter: DeadLetter) -> None:
            self.dead_letters += 1
            if len(self.letters) < LETTERS_KEPT:
                self.letters.append(letter)
            told.on_dead_letter(letter)

        header = self.recording.header
        check = self._check()
        for case, records in cases(self.recording, on_dead_letter, told.on_progress, check):
            domain = f"{header.domain}/{case}" if case else header.domain
            engine = engine_for(self.topology.copy(), self.rules, domain, header.ticks)
            for record, output in fold(
                engine, self._heard(case, self._learning(engine, records), told)
            ):
                yield said(case, record, output)

    def _learning(self, engine: Engine, records: Iterable[Stamped]) -> Iterator[Stamped]:
        """Let the engine know each rule set before the command that makes it active."""
        for record in records:
            name = activated(record.input)
            if name is not None and not engine.knows(name):
                if name in self.recording.rules:
                    engine.learn(rules_of(name, self.recording.rules[name]))
                else:
                    self.unknown_rules.add(name)
            yield record

    def _check(self) -> Check:
        """Return what counts an input that could be read, and says why it is not believed."""
        refusal = self._refusal() if self.keys else None

        def check(record: Stamped, line: bytes) -> tuple[str, str] | None:
            self.read += 1
            return refusal(record, line) if refusal else None

        return check

    def _refusal(self) -> Check:
        # 60 ms that only those wait for who have keys.
        from correlator.signing import Verifier  # noqa: PLC0415

        header = self.recording.header
        return Verifier.from_start(header.domain, header.log_generation, self.keys).refusal

    def _heard(self, case: str, records: Iterable[Stamped], told: Listeners) -> Iterator[Stamped]:
        first_us: int | None = None
        for record in records:
            first_us = record.log_us if first_us is None else first_us
            if self.start and record.log_us < self.start.after(first_us):
                continue
            if self.end and record.log_us >= self.end.after(first_us):
                continue
            self.inputs += 1
            self.unchecked += not self.keys and isinstance(record.input, SIGNED)
            at_s = record.log_us / 1e6
            first_s, last_s = self.spans.get(case, (at_s, at_s))
            self.spans[case] = (min(first_s, at_s), max(last_s, at_s))
            told.on_input(record)
            yield record


def open_playback(
    log: Path, *, rules: str = "generic", topology: Path | None = None, domain: str | None = None
) -> Playback:
    """Return a recording ready to be played.

    Args:
        log: a JSONL file (.gz, .zst) or a recording folder.
        rules: folder or name of a rule pack.
        topology: in place of the one in the recording folder; with neither, the graph is empty.
        domain: in place of the recording's own.

    Raises:
        RecordingError: there is nothing to read.
        TopologyError: the topology cannot be used.
        RuleFaults: the pack has faults; it carries all of them.
        NoSuchPack: there is no such pack.
    """
    recording = open_recording(log)
    if domain:
        header = recording.header.model_copy(update={"domain": domain})
        recording = replace(recording, header=header)
    ruleset, graph, report = open_site(rules, topology or recording.topology)
    return Playback(recording, graph, ruleset, report)


def open_site(rules: str, topology: Path | None) -> tuple[RuleSet, Topology, ImportReport]:
    """Return a rule pack, and a topology read by its schema; without a file, one of nothing.

    Raises:
        TopologyError: the topology cannot be used.
        RuleFaults: the pack has faults; it carries all of them.
        NoSuchPack: there is no such pack.
    """
    ruleset = load_pack(find_pack(rules))
    if topology is None:
        alone = ImportReport(
            faults=["no topology: nothing depends on anything, so causes stay local"]
        )
        return ruleset, Topology(ruleset.schema), alone
    return ruleset, *load_topology(topology, ruleset.schema)

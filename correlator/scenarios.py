"""Reads the scenarios of a corpus: every fault of a file is told with its line and column.

The lines of `inject` become what arrives in a log; nothing is played here. Called by
``correlator/corpus.py``.
"""

import re
import shlex
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import Any, get_args

from correlator.importers import TopologyError, load_topology, written_inline
from correlator.rules import Fault, RuleFaults, RuleSet
from correlator.rules.yamlfile import plain, position, read_documents, validate
from correlator.timeline import START_US, parse_timeline
from correlator.topology import Topology
from schemas.base import MICROSECONDS_PER_SECOND, is_entity, kind_of, parse_duration
from schemas.corpus import Answer, Scenario
from schemas.inputs import Command, CommandName, Fact, Input, Level, OwnerClaim, Pulse, Verdict
from schemas.inputs import TopologyDelta as Delta
from schemas.outputs import Verb

_REPEATED = re.compile(r"^(?P<first>[0-9.]+[a-z]+)\.\.(?P<last>[0-9.]+[a-z]+)/(?P<every>.+)$")
DOMAIN = "domain:corpus"
"""Entity of what is said about the domain as a whole."""
_EDGE_OPS = ("add_edge", "remove_edge", "move_edge")
_START = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=START_US)


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of `inject`, once: what is told, when, and when it arrives."""

    number: int
    """The line in the text, from 0."""
    at_us: int
    arrives_us: int
    text: str
    """As written, without its time."""
    inputs: tuple[Input, ...] = ()
    may_drop: bool = True
    entities: tuple[str, ...] = ()
    gap_us: int = 0
    """Of a ``gap``: how long the log stands still."""
    restart: bool = False
    """The engine is stopped, and a successor goes on from its snapshot."""
    late: str = ""
    """Verb of an action on `entities` that a former owner publishes only now."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """A scenario with its lines read and its graph built."""

    scenario: Scenario
    entries: tuple[Entry, ...]
    topology: Topology


def load_corpus(folder: Path, rules: RuleSet) -> list[Loaded]:
    """Return the scenarios of a folder in the order of their names.

    Raises:
        RuleFaults: with everything wrong in any of its files.
    """
    faults: list[Fault] = []
    read = cache(lambda file: load_topology(file, rules.schema)[0])  # Many share one.
    loaded = [_load(file, read, rules, faults) for file in sorted(folder.glob("*.yaml"))]
    if faults:
        raise RuleFaults(faults)
    return [one for one in loaded if one is not None]


def _load(
    file: Path, read: Callable[[Path], Topology], rules: RuleSet, faults: list[Fault]
) -> Loaded | None:
    shown = f"{file.parent.name}/{file.name}"
    before = len(faults)
    nodes = read_documents(file, faults, shown)
    if len(nodes) != 1:
        if len(faults) == before:
            faults.append(Fault(shown, 1, 1, "documents", "a scenario is one document"))
        return None
    scenario = validate(Scenario, nodes[0], plain(nodes[0]), shown, faults)
    if scenario is None:
        return None
    try:
        written = scenario.topology
        if isinstance(written, str):
            topology = read(file.parent / written)
        else:
            topology = written_inline(written, rules.schema)
    except (OSError, TopologyError, ValueError) as error:
        where = position(nodes[0], ("topology",))
        faults.append(Fault(shown, *where, "topology", str(error)))
        return None
    entries, wrong = parse_inject(scenario.inject)
    known = {DOMAIN, *topology, *(e for entry in entries if _adds(entry) for e in entry.entities)}
    wrong += [
        (one.number, f"no {e} here") for one in entries for e in one.entities if e not in known
    ]
    first = position(nodes[0], ("inject",))[0] + 1
    faults += [Fault(shown, first + n, 1, "line", text) for n, text in dict.fromkeys(wrong)]
    for text, name, index in _unmeant(scenario, known, file.stem):
        where = position(nodes[0], (name, index))
        faults.append(Fault(shown, *where, "unknown-name", text))
    return Loaded(scenario, tuple(entries), topology)


def _adds(entry: Entry) -> bool:
    return any(isinstance(given, Delta) for given in entry.inputs)


def _unmeant(scenario: Scenario, known: set[str], stem: str) -> Iterator[tuple[str, str, int]]:
    """Yield (text, path) of each name that means nothing: a claim about it would be empty."""
    if scenario.id != stem:
        yield f"the file is named {stem}", "id", 0
    rows: list[tuple[str, list[Any]]] = [("expect", scenario.expect), ("forbid", scenario.forbid)]
    for name, claims in [*rows, ("actuators", scenario.actuators)]:
        for index, claim in enumerate(claims):
            targets = [claim.target] if isinstance(claim, Answer) else claim.target or []
            root = [] if isinstance(claim, Answer) or claim.root is None else [claim.root]
            for pattern in [*targets, *root]:
                if not any(matches(pattern, entity) for entity in known):
                    yield f"nothing here is {pattern}", name, index


def matches(pattern: str, entity: str) -> bool:
    """Claim that a pattern means an entity; ``kind:!rest`` means all others of the kind.

    >>> matches("host:!h3", "host:h1"), matches("host:!h3", "host:h3"), matches("vm:*", "vm:v1")
    (True, False, True)
    """
    kind, _, rest = pattern.partition(":")
    if rest.startswith("!"):
        return kind_of(entity) == kind and not fnmatchcase(entity, f"{kind}:{rest[1:]}")
    return fnmatchcase(entity, pattern)


def parse_inject(text: str) -> tuple[list[Entry], list[tuple[int, str]]]:
    """Return the entries of the lines, repeated ones unrolled, and (line, what is wrong).

    >>> entries, faults = parse_inject("1s..3s/1s pulse collector:h1 host=host:h1 boot_id=b1")
    >>> [entry.at_us for entry in entries], faults
    ([1000000, 2000000, 3000000], [])
    """
    entries: list[Entry] = []
    faults: list[tuple[int, str]] = []
    for number, line in enumerate(text.splitlines()):
        try:
            words = shlex.split(line, comments=True)
            if words:
                entries.extend(_entries(number, words))
        except ValueError as error:
            faults.append((number, str(error)))
    return entries, faults


def _entries(number: int, words: list[str]) -> Iterator[Entry]:
    time, *rest = words
    for at_us in _times(time.removesuffix("!")):
        entry = _entry(number, at_us, rest)
        shown = " ".join(shlex.quote(word) if " " in word else word for word in rest)
        may_drop = entry.may_drop and not time.endswith("!")
        yield replace(entry, text=shown, may_drop=may_drop)


def _times(text: str) -> Iterator[int]:
    """Yield the times of ``10s``, or of ``10s..60s/5s``, microseconds."""
    found = _REPEATED.match(text)
    if found is None:
        yield _us(text)
        return
    first, last, every = (_us(found[name]) for name in ("first", "last", "every"))
    if not 0 < every <= last - first:
        msg = f"{text} repeats nothing: write FIRST..LAST/EVERY, for example 10s..60s/5s"
        raise ValueError(msg)
    yield from range(first, last + 1, every)


def _us(duration: str) -> int:
    return round(parse_duration(duration) * MICROSECONDS_PER_SECOND)


def _entry(number: int, at_us: int, words: list[str]) -> Entry:
    made = Entry(number, at_us, at_us, "", may_drop=False)
    verb = words[0] if words else ""
    if verb == "restart":
        return replace(made, restart=True)
    if verb == "gap":
        return replace(made, gap_us=_us(words[1] if len(words) > 1 else ""))
    if verb == "level":
        return replace(made, inputs=(_level(words),))
    if verb == "claim":
        return replace(made, inputs=(OwnerClaim(owner=" ".join(words[1:])),))
    return _of_entities(made, verb, words) or _events(number, at_us, words)


def _of_entities(made: Entry, verb: str, words: list[str]) -> Entry | None:
    if verb in get_args(CommandName):
        given = _command(f"line {made.number} {made.at_us}", words)
        target = (given.target,) if is_entity(given.target) else ()
        return replace(made, inputs=(given,), entities=target)
    if verb == "pulse":
        beat = _pulse(made.at_us, words)
        return replace(made, inputs=(beat,), entities=(beat.collector,), may_drop=True)
    if verb in _EDGE_OPS:
        edit = _edge(words)
        return replace(made, inputs=(edit,), entities=(str(edit.from_), str(edit.to)))
    if verb == "verdict":
        word = _verdict(words)
        return replace(made, inputs=(word,), entities=(word.resource,))
    if verb == "late":
        return _late(made, words)
    return None


def _verdict(words: list[str]) -> Verdict:
    if len(words) != 3:  # noqa: PLR2004 - verdict RESOURCE WORD
        msg = "write TIME verdict RESOURCE failed|working|unknown: the region's word"
        raise ValueError(msg)
    return Verdict.model_validate({"resource": words[1], "state": words[2]})


def _late(made: Entry, words: list[str]) -> Entry:
    if len(words) != 3 or words[1] not in get_args(Verb):  # noqa: PLR2004 - late VERB TARGET
        msg = "write TIME late VERB TARGET: what a former owner had decided comes only now"
        raise ValueError(msg)
    return replace(made, late=words[1], entities=(words[2],))


def _given(words: list[str]) -> tuple[list[str], dict[str, str]]:
    pairs = [word.partition("=")[::2] for word in words if "=" in word]
    return [word for word in words if "=" not in word], dict(pairs)


def _command(command_id: str, words: list[str]) -> Command:
    (name, *target), more = _given(words)
    times = {
        key: _START + timedelta(microseconds=_us(more.pop(key)))
        for key in ("until", "expires_at")
        if key in more
    }
    if len(target) != 1:
        msg = f"{name} has one target: write TIME {name} TARGET [until=TIME] [by=…] [reason=…]"
        raise ValueError(msg)
    document = {"command": name, "target": target[0], "command_id": command_id, **times, **more}
    return Command.model_validate(document)


def _pulse(at_us: int, words: list[str]) -> Pulse:
    (_, *collector), more = _given(words)
    if len(collector) != 1:
        msg = "write TIME pulse COLLECTOR [host=HOST] [boot_id=…] [self_delay_ms=…]"
        raise ValueError(msg)
    at = _START + timedelta(microseconds=at_us)
    document = {"collector": collector[0], "seq": at_us // 1000, "at": at, **more}
    return Pulse.model_validate(document)


def _level(words: list[str]) -> Level:
    if len(words) < 2:  # noqa: PLR2004 - the word itself and the source
        msg = "write TIME level SOURCE [SIGNAL@ENTITY…]"
        raise ValueError(msg)
    pairs = [word.partition("@")[::2] for word in words[2:]]
    facts = [Fact(entity=entity, signal=signal) for signal, entity in pairs]
    return Level(source=words[1], facts=facts)


def _edge(words: list[str]) -> Delta:
    if len(words) != 4:  # noqa: PLR2004 - the word itself and an edge
        msg = f"write TIME {words[0]} DEPENDANT RELATION DEPENDENCY"
        raise ValueError(msg)
    op, dependant, relation, dependency = words
    document = {"op": op, "from": dependant, "relation": relation, "to": dependency}
    return Delta.model_validate(document)


def _events(number: int, at_us: int, words: list[str]) -> Entry:
    lines, faults = parse_timeline(" ".join(["0s", *words]))
    if faults or not lines:
        raise ValueError(faults[0][1] if faults else "nothing is said")
    line = lines[0]
    if line.result is not None:
        msg = f"{line.signal}: results come of `actuators`, not of lines"
        raise ValueError(msg)
    at = _START + timedelta(microseconds=at_us)
    events = tuple(
        event.model_copy(update={"event_id": f"{number}@{at_us} {event.entity}", "at": at})
        for event in line.events()
    )
    return Entry(number, at_us, at_us + line.arrives_us, "", events, entities=line.entities)

"""Replay: a recording through the engine, the same code as live with a file in place of Kafka."""

from collections.abc import Callable, Iterable, Iterator

from correlator.engine import LOG_US_MAX, Engine, Stamped
from correlator.recording import Check, OnDeadLetter, Recording, case_of, has_cases, read
from correlator.rules import RuleSet
from correlator.state import EngineState
from correlator.topology import Topology
from schemas.inputs import Tick
from schemas.outputs import Output

DRAIN_US = 3_600_000_000
"""After the last input, time goes on this far so that what waits can end."""
TICKS_MAX = 1_000_000
"""Ticks synthesised between two inputs; more means that a deadline does not move."""


def engine_for(
    topology: Topology, rules: RuleSet, domain: str, ticks: str = "synthesised"
) -> Engine:
    """Return an engine that knows the topology and nothing else."""
    return Engine(EngineState(domain, topology, rules.hash, ticks=ticks), rules)


def fold(engine: Engine, records: Iterable[Stamped]) -> Iterator[tuple[Stamped, Output]]:
    """Yield everything the engine says, with the input at which it said it.

    Where the recording brought no ticks, one is made at each deadline that falls due before the
    next input; inputs of the same instant come first, so ties in time decide nothing.
    """
    synthesised = engine.state.ticks == "synthesised"
    last_us = 0
    for record in records:
        if record.log_us > last_us:
            last_us = min(record.log_us, LOG_US_MAX)
            due_us = engine.next_deadline_us() if synthesised else None
            if due_us is not None and due_us < last_us:
                yield from ticks_until(engine, last_us)
        for output in engine.step(record):
            yield record, output
    if synthesised:
        yield from ticks_until(engine, min(last_us + DRAIN_US, LOG_US_MAX))


def ticks_until(engine: Engine, until_us: int) -> Iterator[tuple[Stamped, Output]]:
    """Yield what the engine says at each deadline that falls due before a time."""
    for _ in range(TICKS_MAX):
        due_us = engine.next_deadline_us()
        if due_us is None or due_us >= until_us:
            return
        state = engine.state
        tick = Stamped(state.offset, state.index + 1, max(due_us, state.live_us), Tick())
        yield from ((tick, output) for output in engine.step(tick))


def renumbered(records: Iterable[Stamped]) -> Iterator[Stamped]:
    """Yield the records with offsets that count up, whatever the file said of them."""
    for offset, record in enumerate(records):
        yield Stamped(offset, 0, record.log_us, record.input, record.spooled)


def cases(
    recording: Recording,
    on_dead_letter: OnDeadLetter,
    on_progress: Callable[[int], None] | None = None,
    check: Check | None = None,
) -> Iterator[tuple[str, Iterable[Stamped]]]:
    """Yield (case, its records): events that name a case are independent of all others."""
    records = read(recording, on_dead_letter, on_progress, check)
    if recording.imported:
        records = renumbered(records)
    if recording.header.ticks == "recorded" or not has_cases(recording):  # A live log has none.
        yield "", records
        return
    grouped: dict[str, list[Stamped]] = {}
    for record in records:
        grouped.setdefault(case_of(record), []).append(record)
    yield from grouped.items()


def replay(
    recording: Recording,
    topology: Topology,
    rules: RuleSet,
    on_dead_letter: OnDeadLetter,
    on_progress: Callable[[int], None] | None = None,
) -> Iterator[tuple[str, Stamped, Output]]:
    """Yield (case, input, output) of a whole recording."""
    for case, records in cases(recording, on_dead_letter, on_progress):
        domain = f"{recording.header.domain}/{case}" if case else recording.header.domain
        engine = engine_for(topology.copy(), rules, domain, recording.header.ticks)
        for record, output in fold(engine, records):
            yield case, record, output

"""The engine: one input in, outputs out. No I/O, no clock, no chance; never raises on an input.

`Engine.step` folds an input of the log into the state: time → symptoms → causes → incidents →
plans. Called by every shell (replay today), always with what the log said and when.
Keeps: I4 (nothing destructive in a gap, a hold or maintenance), I11 (same log, same decisions).
"""

import heapq
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from correlator import (
    actions,
    commands,
    edits,
    incidents,
    intake,
    liveness,
    results,
    shared,
    sightings,
)
from correlator.domain import Domain
from correlator.rules.ruleset import RuleSet
from correlator.state import EngineState
from schemas.inputs import (
    Command,
    Event,
    Input,
    Level,
    OwnerClaim,
    Pulse,
    Result,
    Tick,
    TopologyDelta,
    Verdict,
)
from schemas.outputs import Output

GAP_US = 1_500_000
"""More than this between two stamps of a live log is a stream gap."""
GAP_DOUBT_US = 2_000_000
"""So long after a gap no absence fires and nothing destructive leaves."""
GAPS_PER_MINUTE_MAX = 3
MINUTE_US = 60_000_000
LOG_US_MAX = 200_000_000_000_000_000
"""A stamp past the year 8000 is taken for this: later ones could not be written down."""


@dataclass(slots=True)
class Stamped:
    """An input with its place and stamp in the log.

    Not frozen: one is made for every input, and freezing doubles what that costs.
    """

    offset: int
    index: int
    log_us: int
    input: Input
    spooled: bool = False


class Engine:
    """Folds one domain's log. `state` is all it knows; the rest is worked out from it."""

    def __init__(
        self, state: EngineState, rules: RuleSet, library: dict[str, RuleSet] | None = None
    ) -> None:
        self.state = state
        self._domain = Domain(state, rules, library or {})

    @property
    def rules(self) -> RuleSet:
        """The active rule set."""
        return self._domain.rules

    def knows(self, name: str) -> bool:
        """Claim that a rule set can be made active, by its hash."""
        return name in self._domain.library

    def learn(self, rules: RuleSet) -> None:
        """Know a rule set that a command may make active; what a hash names never changes."""
        self._domain.library.setdefault(rules.hash, rules)

    def step(self, record: Stamped) -> list[Output]:
        """Fold one input; return what is to be said, in order. A repeated offset is dropped."""
        state, domain = self.state, self._domain
        if (record.offset, record.index) <= (state.offset, state.index):
            state.count("repeated_offsets")
            return []
        state.offset, state.index = record.offset, record.index
        domain.out = []
        _advance(domain, record.log_us)
        given, is_new = record.input, False
        if isinstance(given, Event):
            intake.event(domain, given, spooled=record.spooled)
        else:
            _TAKES[type(given)](domain, given)
            is_new = isinstance(given, Tick | Verdict)
        if domain.must_look:
            domain.must_look, is_new = False, True
            incidents.look(domain)
        if is_new and state.shared:
            shared.tell(domain)
        return domain.out

    def next_deadline_us(self) -> int | None:
        """Return when the engine next has something to do, live time; None if nothing waits."""
        return self.state.deadlines[0][0] if self.state.deadlines else None


# ---- time ----------------------------------------------------------------------------------


def _advance(domain: Domain, log_us: int) -> None:
    state = domain.state
    log_us = min(log_us, LOG_US_MAX)
    elapsed_us = log_us - state.log_us
    if elapsed_us == 0:
        return
    if elapsed_us < 0:
        state.count("time_went_back")
        return
    if state.ticks == "synthesised":
        state.live_us = max(state.live_us, log_us)
    elif state.log_us:
        state.live_us += min(elapsed_us, GAP_US)
        if elapsed_us > GAP_US:
            _gap(domain, elapsed_us)
    state.log_us = log_us
    if state.ticks != "synthesised":
        state.note_shift()


def _gap(domain: Domain, elapsed_us: int) -> None:
    state = domain.state
    state.count("stream_gaps")
    state.gap_until_us = max(state.gap_until_us, state.live_us + GAP_DOUBT_US)
    state.gaps_us = [at for at in state.gaps_us if at > state.live_us - MINUTE_US][-10:]
    state.gaps_us.append(state.live_us)
    text = f"the log was silent for {elapsed_us / 1e6:.1f} s: no absence counts for 2 s"
    domain.note(domain.name, "stream_gap", text)
    if len(state.gaps_us) > GAPS_PER_MINUTE_MAX:
        text = f"over {GAPS_PER_MINUTE_MAX} gaps in a minute"
        domain.note(domain.name, "stream_gaps_many", text)


def _tick(domain: Domain, _: Tick) -> None:
    """Do what has fallen due; a deadline asked for twice is met once."""
    state = domain.state
    while state.deadlines and state.deadlines[0][0] <= state.live_us:
        due = heapq.heappop(state.deadlines)
        while state.deadlines and state.deadlines[0] == due:
            heapq.heappop(state.deadlines)
        _WAKES[due[1]](domain, due[2], due[3])


_WAKES: dict[str, Callable[[Domain, str, str], None]] = {
    "look": lambda domain, first, second: domain.look_now(),
    "relook": incidents.relook,
    "expire": lambda domain, first, second: sightings.expire(domain, (first, second)),
    "absent": lambda domain, first, second: liveness.miss(domain, (first, second)),
    "quiet": lambda domain, first, second: sightings.clear_if_quiet(domain, (first, second)),
    "overtaking": lambda domain, first, second: sightings.forget_clear(domain, (first, second)),
    "close": lambda domain, first, _: incidents.close_if_quiet(domain, first),
    "plan": lambda domain, first, _: incidents.plan(domain, first),
    "again": lambda domain, first, second: actions.send_again(domain),
    "word": lambda domain, first, _: intake.word_over(domain, first),
    "session": lambda domain, first, _: commands.end_session_overdue(domain, first),
}
"""What a deadline asks for, by its name in the state."""


# ---- inputs --------------------------------------------------------------------------------


def _claim(domain: Domain, given: OwnerClaim) -> None:
    """The first claim that names the present epoch wins; its offset is the next one."""
    if given.supersedes == domain.state.epoch:
        domain.state.epoch = domain.state.offset
        actions.send_again(domain)


_TAKES: dict[type, Callable[[Domain, Any], None]] = {
    Tick: _tick,
    Pulse: liveness.pulse,
    Level: intake.level,
    TopologyDelta: edits.edit,
    Command: commands.obey,
    Result: results.take_result,
    OwnerClaim: _claim,
    Verdict: intake.verdict,
}

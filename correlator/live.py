"""One domain folded from its log as it grows: what is said, and which of it may leave.

The same for every log: shells read records, ask here, and append what leaves. No I/O and no clock:
a shell says when it is. Keeps: I11 (what is said follows from the log alone), I10 (actions leave
only under one's own claim). Source: the wire page, "Who may emit" and "Time".
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

from correlator.engine import Engine, Stamped
from correlator.frames import (
    Doubles,
    Opened,
    Unread,
    excerpt_of,
    input_line,
    letter_of,
    opened,
)
from correlator.signing import Verifier
from firstfault.log import LogError, Record
from schemas.inputs import SIGNED, OwnerClaim, Tick
from schemas.outputs import Action, DeadLetter, Decision, Incident, Output
from schemas.topics import LOG

TICK_US = 1_000_000
"""A live log has a tick at least so often."""


class OffsetJumpError(LogError):
    """A record is missing between two that were read: to go on would be to guess."""


@dataclass(frozen=True, slots=True)
class Told:
    """Something said, and the offset of the message at which it was."""

    offset: int
    log_us: int
    output: Output | DeadLetter


class Fold:
    """Folds the records of one domain, in order, each once."""

    def __init__(self, engine: Engine, next_offset: int, verifier: Verifier | None = None) -> None:
        self.engine = engine
        self.next_offset = next_offset
        """Of the record that comes next."""
        self._verifier = verifier
        self._doubles = Doubles()
        self.heard: list[Tick | OwnerClaim] = []
        """What the last record said of who speaks, and how far."""
        self.frame_id = ""
        """Of the last record."""

    def take(self, record: Record) -> list[Told]:
        """Fold a record; return what is said. A record that was read before changes nothing.

        Raises:
            OffsetJumpError: a record before this one was never read.
        """
        if record.offset < self.next_offset:
            return []
        if record.offset > self.next_offset:
            msg = f"{LOG}: offset {record.offset} came where {self.next_offset} was due"
            raise OffsetJumpError(msg)
        self.next_offset += 1
        self.heard = []
        frame = opened(record.offset, record.log_us, record.value)
        self.frame_id = frame.frame_id
        if self._doubles.has(frame.frame_id):
            self.engine.state.count("repeated_frames")
            return []
        return [Told(record.offset, record.log_us, said) for said in self._said(record, frame)]

    def _said(self, record: Record, frame: Opened) -> Iterator[Output | DeadLetter]:
        for one in frame.unread:
            yield letter_of(record.offset, one)
        for stamped in frame.inputs:
            refusal = self._refusal(stamped, record.value)
            if refusal is None:
                if isinstance(stamped.input, Tick | OwnerClaim):
                    self.heard.append(stamped.input)
                yield from self.engine.step(stamped)
            else:
                bad = Unread(stamped.index, *refusal, excerpt_of(record.value))
                yield letter_of(record.offset, bad)

    def _refusal(self, stamped: Stamped, value: bytes) -> tuple[str, str] | None:
        if self._verifier is None:
            return None
        line = input_line(value, stamped.index) if isinstance(stamped.input, SIGNED) else b""
        return self._verifier.refusal(stamped, line)

    def is_tick_due(self, log_us: int) -> bool:
        """Claim that at a log time a tick is to be appended: a deadline has come, or a second."""
        return self.tick_due_us(log_us) <= 0

    def tick_due_us(self, log_us: int) -> int:
        """Return how long after a log time a tick is to be appended; not above 0: at once."""
        state, due_us = self.engine.state, self.engine.next_deadline_us()
        since_us = log_us - state.log_us
        ahead_us = TICK_US if due_us is None else min(TICK_US, due_us - state.live_us)
        return ahead_us - since_us


class Voice:
    """Lets out what may leave, and keeps back what another may have said already.

    Whoever takes over folds the log from a snapshot on, and says nothing of it: incidents and
    decisions go on after what the ticks say is published; actions once one's own claim is read.
    """

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        """How the ids of one's own frames begin: one's name and this start of it."""
        self.may_speak = False
        """One's own claim has been read back, and is the one that counts."""
        self.published_through = -1
        """Offset up to which everything that was said has left."""
        self._kept: deque[Told] = deque()

    def hears(self, given: Tick | OwnerClaim, frame_id: str, *, counts: bool) -> None:
        """Learn from the log how far others have got, and who may speak.

        counts: the claim is the first that names the epoch before it.
        """
        if isinstance(given, Tick):
            self.published_through = max(self.published_through, given.published_through)
            while self._kept and self._kept[0].offset <= self.published_through:
                self._kept.popleft()
        elif counts:
            self.may_speak = frame_id.startswith(self._prefix)

    def leaving(self, told: list[Told]) -> list[Told]:
        """Return what is to be published now of what was said; the rest is kept or muted."""
        if not self.may_speak:
            self._kept.extend(one for one in told if not isinstance(one.output, Action))
            return []
        before, self._kept = list(self._kept), deque()
        return [*before, *told]


def key_of(output: Output | DeadLetter) -> str:
    """Return the key of the message that carries an output."""
    match output:
        case Incident():
            return output.incident_id
        case Decision():
            return output.entity
        case Action():
            return output.target
        case DeadLetter():
            return output.source

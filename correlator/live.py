"""The domains of one partition, folded from its log as it grows: what is said, what may leave.

The same for every log: shells read records, ask here, and append what leaves. No I/O and no clock:
a shell says when it is. Keeps: I11 (what is said follows from the log alone), I10 (actions leave
only under one's own claim). Source: the wire page, "Who may emit" and "Time".
"""

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
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
    strays,
)
from correlator.signing import Verifier
from firstfault.log import LogError, Message, Record
from schemas.base import canonical, document_of
from schemas.inputs import SIGNED, OwnerClaim, Tick
from schemas.outputs import Action, DeadLetter, Decision, Digest, Incident, Output
from schemas.topics import ACTIONS, DEAD_LETTERS, DECISIONS, INCIDENTS, LOG, REGION

SPEAKING = (Tick, OwnerClaim)
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
        self.verifier = verifier
        self.doubles = Doubles()
        self.heard: list[Tick | OwnerClaim] = []
        """What the last record said of who speaks, and how far."""
        self.frame_id = ""
        """Of the last record."""

    def take(self, record: Record) -> list[Told]:
        """Fold a record; return what is said. A record that was read before changes nothing.

        Raises:
            OffsetJumpError: a record before this one was never read.
        """
        if not is_next(record.offset, self.next_offset):
            return []
        return self.fold(record, opened(record.offset, record.log_us, record.value))

    def fold(self, record: Record, frame: Opened) -> list[Told]:
        """Fold a record that is the next one, and has been opened; return what is said."""
        self.next_offset = record.offset + 1
        self.heard = []
        self.frame_id = frame.frame_id
        if self.doubles.has(frame.frame_id):
            self.engine.state.count("repeated_frames")
            return []
        return [Told(record.offset, record.log_us, said) for said in self._said(record, frame)]

    def _said(self, record: Record, frame: Opened) -> Iterator[Output | DeadLetter]:
        for one in frame.unread:
            yield letter_of(record.offset, one)
        for stamped in frame.inputs:
            verifier = self.verifier
            refusal = None if verifier is None else _refusal(verifier, stamped, record.value)
            if refusal is None:
                if isinstance(stamped.input, SPEAKING):
                    self.heard.append(stamped.input)
                yield from self.engine.step(stamped)
            else:
                bad = Unread(stamped.index, *refusal, excerpt_of(record.value))
                yield letter_of(record.offset, bad)

    def tick_due_us(self, log_us: int) -> int:
        """Return how long after a log time a tick is to be appended; not above 0: at once.

        It is due when a deadline has come, or after a second.
        """
        state, due_us = self.engine.state, self.engine.next_deadline_us()
        since_us = log_us - state.log_us
        ahead_us = TICK_US if due_us is None else min(TICK_US, due_us - state.live_us)
        return ahead_us - since_us


def _refusal(verifier: Verifier, stamped: Stamped, value: bytes) -> tuple[str, str] | None:
    line = input_line(value, stamped.index) if isinstance(stamped.input, SIGNED) else b""
    return verifier.refusal(stamped, line)


class Voice:
    """Keeps what was said until it may leave, and what another may have said already never leaves.

    Whoever takes over folds the log from a snapshot on, and says nothing of it: incidents and
    decisions go on after what the ticks say is published; actions once one's own claim is read,
    for there the engine says again what is still to be done. A word that takes back an action is
    said only once, so it is kept like a decision: it must reach whom that action has reached.
    """

    def __init__(self, prefix: str, published_through: int = -1) -> None:
        self._prefix = prefix
        """How the ids of one's own frames begin: one's name and this start of it."""
        self.may_speak = False
        """One's own claim has been read back, and is the one that counts."""
        self.published_through = published_through
        """Offset up to which everything that was said has left."""
        self._waiting: deque[Told] = deque()
        # Bounded by the log: whoever speaks says at least once a second how far it has got, and
        # where nobody does, one's own claim is read within a second or so.

    def hears(self, given: Tick | OwnerClaim, frame_id: str, *, counts: bool) -> None:
        """Learn from the log how far others have got, and who may speak.

        counts: the claim is the first that names the epoch before it; the tick is of that epoch.
        """
        if isinstance(given, Tick):
            if counts:
                self.published(given.published_through)
        elif counts:
            self.may_speak = frame_id.startswith(self._prefix)
            if not self.may_speak:  # The new speaker says those again that still stand.
                self._waiting = deque(one for one in self._waiting if not _is_said_again(one))

    def says(self, told: Iterable[Told]) -> None:
        """Keep what was said until it may leave; an action that may not leave now never does."""
        self._waiting.extend(one for one in told if self.may_speak or not _is_said_again(one))

    def published(self, offset: int) -> None:
        """Know that what was said up to an offset has left, whoever let it out."""
        self.published_through = max(self.published_through, offset)
        while self._waiting and self._waiting[0].offset <= self.published_through:
            self._waiting.popleft()

    def leaving(self) -> list[Told]:
        """Return what is to leave now, in order; it stays until `published` says that it has."""
        return list(self._waiting) if self.may_speak else []


def _is_said_again(told: Told) -> bool:
    """Claim that the engine says it anew under the next claim, if it still holds then."""
    return isinstance(told.output, Action) and told.output.verb != "revoke"


@dataclass
class Live:
    """One domain as a shell has it: how it is folded, and who may speak for it."""

    fold: Fold
    voice: Voice


class Partition:
    """The domains of one partition, folded from its records in order, each once.

    domains: by name; a frame of another domain becomes a dead letter, told by the first of them.
    """

    def __init__(self, next_offset: int, domains: Mapping[str, Live]) -> None:
        self.next_offset = next_offset
        """Of the record that comes next."""
        self.domains = dict(sorted(domains.items()))
        self._first = next(iter(self.domains.values()))

    def take(self, record: Record) -> Live | None:
        """Fold a record; return whose it was, None where it was read before.

        Raises:
            OffsetJumpError: a record before this one was never read.
        """
        if not is_next(record.offset, self.next_offset):
            return None
        self.next_offset += 1
        frame = opened(record.offset, record.log_us, record.value)
        live = self.domains.get(frame.domain)
        if live is None:
            letters = strays(record.offset, record.value, frame)
            told = [Told(record.offset, record.log_us, one) for one in letters]
            self._first.voice.says(told)
            return self._first
        if record.offset >= live.fold.next_offset:  # Its snapshot may be ahead of its neighbours'.
            _take(live, record, frame)
        return live

    def leaving(self) -> list[Told]:
        """Return what is to leave now, of all domains."""
        return [one for live in self.domains.values() for one in live.voice.leaving()]

    def published(self) -> None:
        """Know that all that was to leave has left."""
        for live in self.domains.values():
            if live.voice.may_speak:
                live.voice.published(self.next_offset - 1)

    @property
    def may_speak(self) -> bool:
        """Claim that one may speak for some domain of it."""
        return any(live.voice.may_speak for live in self.domains.values())


def _take(live: Live, record: Record, frame: Opened) -> None:
    fold, voice = live.fold, live.voice
    told = fold.fold(record, frame)
    epoch = fold.engine.state.epoch
    for given in fold.heard:
        if isinstance(given, Tick):  # Ticks are not signed: one that cannot be true counts nothing.
            counts = given.epoch == (epoch or 0) and given.published_through < record.offset
        else:
            counts = epoch == record.offset
        voice.hears(given, fold.frame_id, counts=counts)
    voice.says(told)


def is_next(offset: int, due: int) -> bool:
    """Claim that a record is the one that is due; False for one that was read before.

    Raises:
        OffsetJumpError: it lies beyond.
    """
    if offset > due:
        msg = f"{LOG}: offset {offset} came where {due} was due; nothing is skipped"
        raise OffsetJumpError(msg)
    return offset == due


TOPIC_OF: dict[type, str] = {
    Incident: INCIDENTS,
    Decision: DECISIONS,
    Action: ACTIONS,
    Digest: REGION,
}


def messages_of(told: Iterable[Told]) -> dict[str, list[Message]]:
    """Return the messages that carry what was said, in order, by topic."""
    by_topic: dict[str, list[Message]] = {}
    for one in told:
        topic = TOPIC_OF.get(type(one.output), DEAD_LETTERS)
        value = canonical(document_of(one.output)).encode()
        by_topic.setdefault(topic, []).append(Message(key_of(one.output), value))
    return by_topic


def key_of(output: Output | DeadLetter) -> str:
    """Return the key of the message that carries an output."""
    match output:
        case Incident():
            return output.incident_id
        case Decision():
            return output.entity
        case Action():
            return output.target
        case Digest():
            return output.resource
        case DeadLetter():
            return output.source

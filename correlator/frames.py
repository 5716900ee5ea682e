"""Frames of the log, read into inputs: what cannot be read of one costs only itself.

Used by every shell that folds the log, live or in replay. Keeps: the same bytes at the same place
give the same inputs. Source of the shape: the wire page, "Inputs".
"""

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import orjson
from pydantic import TypeAdapter, ValidationError

from correlator.engine import Stamped
from correlator.signatures import Refused, written
from schemas.base import canonical, first_fault
from schemas.control import RULES
from schemas.inputs import FRAME_INPUTS_MAX, Command, Event, Frame, Input, OwnerClaim
from schemas.outputs import DeadLetter
from schemas.topics import LOG, MESSAGE_BYTES_MAX

HISTORY = timedelta(seconds=2)
"""An input this much older than the frame that brought it was spooled."""
EXCERPT_CHARACTERS = 200

_FRAME = TypeAdapter(Frame)
_INPUT: TypeAdapter[Input] = TypeAdapter(Input)


@dataclass(frozen=True, slots=True)
class Unread:
    """A frame, or one input of it, that could not be read."""

    index: int
    """Place in the frame; 0 where it is the frame itself."""
    code: str
    reason: str
    excerpt: str


TOO_DEEP = "nested too deep, or a number of more than 64 bits"


@dataclass(frozen=True, slots=True)
class Opened:
    """What is in a message of the log."""

    frame_id: str
    domain: str
    inputs: tuple[Stamped, ...]
    unread: tuple[Unread, ...]


DIGITS_MAX = 18
"""Of a frame's number: a producer of a thousand a second needs as many in 30 million years."""


class Doubles:
    """Knows the frames that a producer has sent twice: their numbers count up within a boot."""

    def __init__(self) -> None:
        self._last: dict[str, tuple[str, int]] = {}
        """source → (boot, sequence) of its last frame"""

    def has(self, frame_id: str) -> bool:
        """Claim that a frame was there before; one that has no such id never was."""
        rest, _, number = frame_id.rpartition("/")
        source, _, boot = rest.rpartition("/")
        if not number.isdecimal() or len(number) > DIGITS_MAX:
            return False
        last_boot, last = self._last.get(source, ("", -1))
        if boot == last_boot and int(number) <= last:
            return True
        self._last[source] = boot, int(number)
        return False

    def rows(self) -> list[tuple[str, str, int]]:
        """Return what is remembered, as (source, boot, sequence): a snapshot holds it."""
        return [(source, boot, number) for source, (boot, number) in self._last.items()]

    def know(self, rows: Iterable[tuple[str, str, int]]) -> None:
        """Remember what a snapshot holds."""
        self._last.update((source, (boot, number)) for source, boot, number in rows)


def opened(offset: int, log_us: int, value: bytes) -> Opened:
    """Return the inputs of a message; the offset and the stamp are those the log gave it."""
    if len(value) > MESSAGE_BYTES_MAX:
        return _nothing("too_long", f"{len(value)} bytes, over {MESSAGE_BYTES_MAX}", value)
    if (fault := not_finite(value)) is not None:
        return _nothing("not_finite", fault, value)
    try:
        frame = _FRAME.validate_json(value)
    except ValidationError as error:
        return _what_can_be_read(offset, log_us, value, error)
    try:
        inputs = tuple(
            stamped((offset, index, log_us), given, frame.sent_at)
            for index, given in enumerate(frame.inputs)
        )
    except (ValueError, RecursionError):
        return _what_can_be_placed(offset, log_us, frame)
    return Opened(frame.frame_id, frame.domain, inputs, ())


def not_finite(text: bytes) -> str | None:
    """Return what is wrong with a text that says NaN or Infinity; None where it does not.

    The parser takes both, and neither is JSON: what cannot be written again cannot be replayed.
    """
    # One letter is looked for at the speed of memory, a word at a tenth of it.
    if not ((b"N" in text and b"NaN" in text) or (b"I" in text and b"Infinity" in text)):
        return None
    try:
        json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        return str(error)
    return None


def _no_constant(name: str) -> None:
    msg = f"{name} is not JSON"
    raise ValueError(msg)


def _nothing(code: str, reason: str, value: bytes) -> Opened:
    return Opened("", "", (), (Unread(0, code, reason, excerpt_of(value)),))


def excerpt_of(value: bytes) -> str:
    """Return the beginning of a message as text."""
    return value[:EXCERPT_CHARACTERS].decode(errors="replace")


def _what_can_be_read(offset: int, log_us: int, value: bytes, error: ValidationError) -> Opened:
    """Read the inputs of a frame one by one, since one of them, or the frame, is wrong."""
    try:
        document = orjson.loads(value)
    except orjson.JSONDecodeError as fault:
        return _nothing("not_json", str(fault), value)
    given = document.get("inputs") if isinstance(document, dict) else None
    if not isinstance(given, list) or not 0 < len(given) <= FRAME_INPUTS_MAX:
        return _nothing("schema", first_fault(error, "frame"), value)
    try:
        empty = {"type": "tick"}
        frame = _FRAME.validate_python({**document, "inputs": [empty]})
    except ValidationError as fault:
        return _nothing("schema", first_fault(fault, "frame"), value)
    return _parted(frame, list(_one_by_one((offset, log_us), given, frame.sent_at)))


def _what_can_be_placed(offset: int, log_us: int, frame: Frame) -> Opened:
    """Place the inputs of a frame one by one, since one of them cannot be told from others."""
    read = [
        _placed((offset, index, log_us), given, frame.sent_at)
        for index, given in enumerate(frame.inputs)
    ]
    return _parted(frame, read)


def _parted(frame: Frame, read: list[Stamped | Unread]) -> Opened:
    inputs = tuple(one for one in read if isinstance(one, Stamped))
    unread = tuple(one for one in read if isinstance(one, Unread))
    return Opened(frame.frame_id, frame.domain, inputs, unread)


def _placed(
    place: tuple[int, int, int], given: Input, sent_at: datetime | None
) -> Stamped | Unread:
    try:
        return stamped(place, given, sent_at)
    except (ValueError, RecursionError):
        return Unread(place[1], "too_deep", TOO_DEEP, "")


def _one_by_one(
    place: tuple[int, int], given: list[Any], sent_at: datetime | None
) -> Iterator[Stamped | Unread]:
    offset, log_us = place
    for index, document in enumerate(given):
        try:
            one = _INPUT.validate_python(document)
        except ValidationError as fault:
            yield Unread(index, "schema", first_fault(fault, "input"), _excerpt(document))
        else:
            yield _placed((offset, index, log_us), one, sent_at)


def _excerpt(document: Any) -> str:  # noqa: ANN401 - any JSON
    try:
        return excerpt_of(orjson.dumps(document))
    except TypeError:  # As in `_id_of`; who looks for it finds it at its offset.
        return TOO_DEEP


def stamped(place: tuple[int, int, int], given: Input, sent_at: datetime | None) -> Stamped:
    """Return an input at its place (offset, index, log time in microseconds).

    sent_at: when its frame left its source, by the clock that gave the input's `at`.
    """
    offset, index, log_us = place
    at: datetime | None = getattr(given, "at", None)
    spooled = sent_at is not None and at is not None and sent_at - at > HISTORY
    if isinstance(given, Event) and given.event_id is None:
        given = given.model_copy(update={"event_id": _id_of(given)})
    return Stamped(offset, index, log_us, given, spooled)


def _id_of(event: Event) -> str:
    """Return the id of an event that brought none: the hash of its content, wherever it stands."""
    content = event.model_dump(mode="json", by_alias=True, exclude_none=True)
    try:
        text = orjson.dumps(content, option=orjson.OPT_SORT_KEYS)
    except TypeError:  # A number of more than 64 bits, or a hundred lists in each other.
        text = json.dumps(content, sort_keys=True).encode()
    return hashlib.sha256(text).hexdigest()


def letter_of(offset: int, bad: Unread) -> DeadLetter:
    """Return what becomes of what could not be read of a message at an offset."""
    where = f"input {bad.index}: " if bad.index else ""
    return DeadLetter(
        source=LOG,
        position=offset,
        code=bad.code,
        reason=f"{where}{bad.reason}",
        excerpt=bad.excerpt,
    )


def strays(offset: int, value: bytes, frame: Opened) -> list[DeadLetter]:
    """Return what becomes of a message that belongs to none of the domains that are folded."""
    unread = frame.unread
    if frame.domain:
        reason = f"no domain {frame.domain[:64]} in this partition"
        unread = (Unread(0, "unknown_domain", reason, excerpt_of(value)),)
    return [letter_of(offset, one) for one in unread]


SPOKEN = (b"owner_claim", b"\\u")
"""One of these is in every message that holds a claim; JSON may escape any letter."""


class Named:
    """Finds of which domain a log is that names none: its correlator's, or the first that comes."""

    def __init__(self) -> None:
        self.domain = ""

    def is_found(self, offset: int, log_us: int, value: bytes) -> bool:
        """Take in a message; claim that no further one can change the answer."""
        if self.domain and not any(word in value for word in SPOKEN):
            return False
        frame = opened(offset, log_us, value)
        if any(isinstance(one.input, OwnerClaim) for one in frame.inputs):
            self.domain = frame.domain
            return True
        self.domain = self.domain or frame.domain
        return False


def input_line(value: bytes, index: int) -> bytes:
    """Return one input of a message as a line of a recording holds it, for its signature.

    Where two readers could take the message for two different ones, that is returned as it is.
    """
    try:
        return canonical({"input": written(value)["inputs"][index]}).encode()
    except Refused:
        return value


def activated(given: Input) -> str | None:
    """Return the hash of the rule set that an input makes active; None for any other input."""
    if isinstance(given, Command) and given.command == "activate_rules":
        return given.target.removeprefix(RULES)
    return None

"""Recorded logs as inputs: JSONL files (plain, .gz, .zst) and recording folders.

What cannot be read becomes a `DeadLetter` with its line and reason, and reading goes on. Labels
never pass this module.
"""

import gzip
import hashlib
import io
import json
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Any, NotRequired

import orjson
import zstandard
from pydantic import Field, TypeAdapter, ValidationError
from typing_extensions import TypedDict  # pydantic asks for this one before Python 3.12

from correlator.engine import Stamped
from correlator.frames import (
    Doubles,
    Named,
    Opened,
    excerpt_of,
    input_line,
    letter_of,
    not_finite,
    opened,
    stamped,
    strays,
)
from correlator.importers import entity_id
from schemas.base import (
    canonical,
    document_of,
    first_fault,
    from_microseconds,
    to_microseconds,
)
from schemas.control import RuleFiles
from schemas.inputs import SIGNED, Event, RecordingHeader, RecordingLine, State
from schemas.outputs import DeadLetter
from schemas.topics import CONTROL, LOCAL_FILE, LOG, MESSAGE_BYTES_MAX

if TYPE_CHECKING:
    from firstfault.log import Record  # firstfault re-exports from here.

LINE_BYTES_MAX = 2 * MESSAGE_BYTES_MAX
"""A longer line is no input: a message of the log may be one, and be written at greater length."""
RULES_FILE = "rules-{}.json"
"""Of a rule set that a recording names, beside it."""
AHEAD_US = 120_000_000
"""A stamp this far ahead is not the log's time: twice the lateness that any shipped pack allows."""
AROUND = 20
"""So many lines after a leap in time say whether the log goes on from there."""


class _Entity(TypedDict):
    kind: Annotated[str, Field(min_length=1, max_length=64)]
    id: Annotated[str, Field(min_length=1, max_length=400)]


class ImportedEvent(TypedDict):
    """A line of a recording folder's events.jsonl; no model: it becomes an `Event` at once."""

    ts: Annotated[float, Field(ge=0, le=1e11, description="log time, seconds since 1970")]
    entity: _Entity
    type: Annotated[str, Field(min_length=1, max_length=256, description="becomes the signal")]
    state: NotRequired[State]
    severity: NotRequired[str]
    event_id: NotRequired[Annotated[str, Field(max_length=256)] | None]
    source: NotRequired[Annotated[str, Field(max_length=512)] | None]
    attrs: NotRequired[dict[str, Any]]


_LINE = TypeAdapter(RecordingLine)
_IMPORTED = TypeAdapter(ImportedEvent)
_EVENT = TypeAdapter(Event)
OnDeadLetter = Callable[[DeadLetter], None]
Check = Callable[[Stamped, bytes], tuple[str, str] | None]
"""Says of an input and its line why it is not believed: (code, reason); None where it is."""


class RecordingError(Exception):
    """A recording that cannot be opened at all, said in one sentence."""


@dataclass(frozen=True)
class Recording:
    """Where a recording's parts are."""

    events: Path
    topology: Path | None
    labels: Path | None
    imported: bool
    header: RecordingHeader
    rules: Mapping[str, RuleFiles] = field(default_factory=dict)
    """Rule sets that a command of the recording may make active, by hash."""

    @property
    def size_bytes(self) -> int:
        """Size of the file of events, for a progress bar."""
        return self.events.stat().st_size


def open_recording(path: Path) -> Recording:
    """Return the parts of a recording folder or of a JSONL file.

    Raises:
        RecordingError: where there is nothing to read.
    """
    if (path / LOCAL_FILE).is_file():
        return _open_log(path / LOCAL_FILE)
    if path.is_dir():
        events = next((p for p in sorted(path.glob("events.jsonl*")) if p.is_file()), None)
        if events is None:
            msg = f"{path}: a recording folder needs events.jsonl"
            raise RecordingError(msg)
        topologies = (path / f"topology.{end}" for end in ("json", "yaml", "yml"))
        topology = next((p for p in topologies if p.is_file()), None)
        labels, logged = path / "labels.jsonl", None
        with suppress(OSError, EOFError, zstandard.ZstdError):  # Told when it is read.
            logged = _header_of(events)
        if logged is not None and logged.ticks == "recorded":  # Written by `firstfault record`.
            return Recording(
                events, topology, None, imported=False, header=logged, rules=_kept(path)
            )
        header = RecordingHeader(ticks="synthesised", domain=path.resolve().name)
        return Recording(
            events, topology, labels if labels.is_file() else None, imported=True, header=header
        )
    if not path.is_file():
        msg = f"{path}: no such file or folder"
        raise RecordingError(msg)
    return _open_file(path)


def _open_log(file: Path) -> Recording:
    """Return a local log as the recording that it is."""
    from firstfault.log.control import rules_in  # noqa: PLC0415 - firstfault re-exports from here
    from firstfault.log.local import all_records  # noqa: PLC0415 - as above

    named = Named()
    for one in all_records(file, LOG):
        if named.is_found(one.offset, one.log_us, one.value):
            break
    header = RecordingHeader(ticks="recorded", domain=named.domain or "default")
    newest = {record.key: record for record in all_records(file, CONTROL)}
    rules = rules_in(newest.values())
    return Recording(file, None, None, imported=False, header=header, rules=rules)


def _kept(folder: Path) -> dict[str, RuleFiles]:
    """Return the rule sets that stand beside a recording, by hash."""
    found = {}
    for file in sorted(folder.glob(RULES_FILE.format("*"))):
        try:
            found[file.stem.removeprefix("rules-")] = RuleFiles.model_validate_json(
                file.read_bytes()
            )
        except ValidationError as error:
            msg = f"{file}: {first_fault(error)}"
            raise RecordingError(msg) from None
    return found


def _open_file(path: Path) -> Recording:
    try:
        found = _header_of(path)
    except (OSError, EOFError, zstandard.ZstdError) as error:
        msg = f"{path}: {error}"
        raise RecordingError(msg) from error
    header = found or RecordingHeader(ticks="synthesised", domain=path.name.split(".")[0])
    return Recording(path, None, None, imported=False, header=header)


def _header_of(path: Path) -> RecordingHeader | None:
    """Return what the first line says of a recording; None where it is no header."""
    stream, file = _opened(path)
    with stream, file:
        first = stream.readline(LINE_BYTES_MAX)
    try:
        return RecordingHeader.model_validate_json(first)
    except ValidationError:
        return None


def _opened(path: Path) -> tuple[IO[bytes], IO[bytes]]:
    """Return the decompressed stream and the file beneath it (whose position shows progress)."""
    file = path.open("rb")
    if path.suffix == ".gz":
        return io.BufferedReader(gzip.GzipFile(fileobj=file)), file
    if path.suffix == ".zst":
        return io.BufferedReader(zstandard.ZstdDecompressor().stream_reader(file)), file
    return file, file


def lines(
    path: Path, on_dead_letter: OnDeadLetter, on_progress: Callable[[int], None] | None = None
) -> Iterator[tuple[int, bytes]]:
    """Yield number (from 1) and bytes of each line that is not too long or empty."""
    stream, file = _opened(path)
    number = 0
    with stream, file:
        while line := _next_line(stream, path, number + 1, on_dead_letter):
            number += 1
            if len(line) > LINE_BYTES_MAX:
                _skip_rest(stream, line)
                reason = f"over {LINE_BYTES_MAX} bytes"
                on_dead_letter(_letter(path, number, "line_too_long", reason, line))
            elif not line.isspace():
                yield number, line
            if on_progress and number % 2000 == 0:
                on_progress(file.tell())


def _next_line(stream: IO[bytes], path: Path, number: int, on_dead_letter: OnDeadLetter) -> bytes:
    try:
        return stream.readline(LINE_BYTES_MAX + 1)
    except (OSError, EOFError, zstandard.ZstdError) as error:
        on_dead_letter(_letter(path, number, "cannot_decompress", str(error), b""))
        return b""


def _skip_rest(stream: IO[bytes], line: bytes) -> None:
    while line and not line.endswith(b"\n"):
        line = stream.readline(LINE_BYTES_MAX)


def _letter(path: Path, number: int, code: str, reason: str, line: bytes) -> DeadLetter:
    excerpt = excerpt_of(line)
    return DeadLetter(source=path.name, position=number, code=code, reason=reason, excerpt=excerpt)


def read(
    recording: Recording,
    on_dead_letter: OnDeadLetter,
    on_progress: Callable[[int], None] | None = None,
    check: Check | None = None,
) -> Iterator[Stamped]:
    """Yield the inputs of a recording in its order, without those that the check refuses.

    A log that brings no ticks has no time but its stamps; those that cannot be are refused.
    """
    found = _found(recording, on_progress)
    if recording.header.ticks == "synthesised":
        found = _in_time(recording.events, found)
    for number, line, given in found:
        if isinstance(given, DeadLetter):
            on_dead_letter(given)
            continue
        refusal = check(given, line) if check else None
        if refusal is None:
            yield given
        else:
            on_dead_letter(_letter(recording.events, number, *refusal, line))


class _Unreadable(Exception):  # noqa: N818 - control flow inside this module
    def __init__(self, code: str, reason: str) -> None:
        self.code, self.reason = code, reason
        super().__init__(reason)


_Found = tuple[int, bytes, Stamped | DeadLetter]
"""Number of a line, the line, and what it is."""


def _found(recording: Recording, on_progress: Callable[[int], None] | None) -> Iterator[_Found]:
    """Yield what each line is, in their order; a header is nothing."""
    if recording.events.name == LOCAL_FILE:
        yield from _logged(recording.events, recording.header.domain)
        return
    decode = _decode_imported if recording.imported else _decode_line
    refused: deque[DeadLetter] = deque()
    for number, line in lines(recording.events, refused.append, on_progress):
        while refused:
            yield number, b"", refused.popleft()
        try:
            given = decode(number, line)
        except _Unreadable as bad:
            yield number, line, _letter(recording.events, number, bad.code, bad.reason, line)
        else:
            if given is not None:
                yield number, line, given
    while refused:
        yield 0, b"", refused.popleft()


def _logged(file: Path, domain: str) -> Iterator[_Found]:
    """Yield what the messages of a local log are to one domain, in their order, as live."""
    from firstfault.log.local import all_records  # noqa: PLC0415 - as above

    doubles = Doubles()
    for record in all_records(file, LOG):
        frame = opened(record.offset, record.log_us, record.value)
        if frame.domain != domain:
            for letter in strays(record.offset, record.value, frame):
                yield record.offset, b"", letter
            continue
        if doubles.has(frame.frame_id):
            continue
        for bad in frame.unread:
            yield record.offset, b"", letter_of(record.offset, bad)
        for given in frame.inputs:
            line = input_line(record.value, given.index) if isinstance(given.input, SIGNED) else b""
            yield record.offset, line, given


def _in_time(path: Path, found: Iterator[_Found]) -> Iterator[_Found]:
    """Yield what each line is, refusing those that are stamped far ahead of what follows them.

    A log that was silent for a day goes on from there. After a line of one wrong clock it is back
    where it was; taken at its word, that line would make all that stands go stale.
    """
    latest_us: dict[str, int] = {}
    coming: deque[_Found] = deque()
    while one := coming.popleft() if coming else next(found, None):
        number, line, given = one
        if isinstance(given, DeadLetter):
            yield one
            continue
        case, at_us = case_of(given), given.log_us
        last_us = latest_us.get(case)
        if last_us is None or at_us > last_us + AHEAD_US:
            coming.extend(islice(found, AROUND - len(coming)))
            ahead_us = _ahead_us(case, at_us, coming)
            if ahead_us:
                reason = f"stamped {ahead_us / 1e6:.0f} s ahead of the lines that follow"
                yield number, line, _letter(path, number, "stamp_ahead", reason, line)
                continue
        if last_us is None or at_us > last_us:
            latest_us[case] = at_us
        yield one


def _ahead_us(case: str, at_us: int, coming: Iterable[_Found]) -> int:
    """Return how far a stamp is ahead of most that come in its case; 0 where they go on from it."""
    after = (other for _, _, other in coming if isinstance(other, Stamped))
    stamps = [other.log_us for other in after if case_of(other) == case]
    behind = [stamp for stamp in stamps if stamp < at_us - AHEAD_US]
    return at_us - max(behind) if 2 * len(behind) > len(stamps) else 0


def _check_finite(line: bytes) -> None:
    if (fault := not_finite(line)) is not None:
        raise _Unreadable("not_finite" if fault.endswith("is not JSON") else "not_json", fault)


def _refusal(error: ValidationError) -> _Unreadable:
    first = error.errors(include_url=False, include_input=False)[0]
    if first["type"] == "json_invalid":
        code = "not_utf8" if "unicode" in first["msg"].lower() else "not_json"
        return _Unreadable(code, first["msg"])
    return _Unreadable("schema", first_fault(error, "line"))


def _decode_imported(number: int, line: bytes) -> Stamped:
    _check_finite(line)
    try:
        given = _IMPORTED.validate_json(line)
        event = _EVENT.validate_python(
            {
                "event_id": given.get("event_id") or hashlib.sha256(line.strip()).hexdigest(),
                "entity": entity_id(given["entity"]["kind"], given["entity"]["id"]),
                "signal": given["type"],
                "state": _imported_state(given),
                "severity": given.get("severity", "indeterminate"),
                "source": given.get("source"),
                "attrs": given.get("attrs", {}),
            }
        )
    except ValidationError as error:
        raise _refusal(error) from None
    return Stamped(number, 0, round(given["ts"] * 1e6), event)


def _imported_state(given: ImportedEvent) -> State:
    return "cleared" if given.get("severity") == "cleared" else given.get("state", "raised")


def _decode_line(number: int, line: bytes) -> Stamped | None:
    _check_finite(line)
    try:
        given = _LINE.validate_json(line)
    except ValidationError as error:
        if b'"firstfault"' in line and number == 1:
            return None
        if b'"ts"' in line and b'"entity"' in line:
            return _decode_imported(number, line)
        raise _refusal(error) from None
    place = given.offset, given.index, to_microseconds(given.log_at)
    return stamped(place, given.input, given.sent_at)


def case_of(record: Stamped) -> str:
    """Return the independent case an event belongs to; '' where it names none."""
    attrs = getattr(record.input, "attrs", None)
    case = attrs.get("case") if isinstance(attrs, dict) else None
    return "" if case is None else str(case)


def has_cases(recording: Recording) -> bool:
    """Claim that some event of the recording may name a case."""
    return any(b'"case"' in line for _, line in lines(recording.events, lambda _: None))


def line_of(stamped: Stamped) -> str:
    """Return an input as a line of a recording file."""
    return canonical(
        {
            "offset": stamped.offset,
            "index": stamped.index,
            "log_at": from_microseconds(stamped.log_us),
            "input": document_of(stamped.input),
        }
    )


def header_line(domain: str, log_generation: str) -> str:
    """Return the first line of a recording of a live log."""
    header = RecordingHeader(ticks="recorded", domain=domain, log_generation=log_generation)
    return canonical(document_of(header))


def logged_lines(record: "Record", frame: Opened) -> Iterator[str]:
    """Yield the inputs of a message of the log as lines of a recording, as they were written.

    What could not be read of it is left out: no fold takes it in.
    """
    # As they were read: a frame with a fault is taken apart by another parser.
    document = (orjson.loads if frame.unread else json.loads)(record.value)
    for given in frame.inputs:
        line = {
            "offset": given.offset,
            "index": given.index,
            "log_at": from_microseconds(given.log_us),
            "frame_id": frame.frame_id,
            "input": document["inputs"][given.index],
        }
        if document.get("sent_at") is not None:
            line["sent_at"] = document["sent_at"]
        try:
            text = canonical(line)
        except ValueError:  # A number beyond a double's range: it becomes null, as everywhere.
            text = canonical({**line, "input": document_of(given.input)})
        if (
            isinstance(given.input, SIGNED)
            and input_line(record.value, given.index) == record.value
        ):
            # There is no one reading of its frame, so no signature counts; nor of this line.
            text = f'{{"offset":{given.offset},{text[1:]}'
        yield text

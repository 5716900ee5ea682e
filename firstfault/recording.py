"""``firstfault record``: a stretch of one domain's log, written as a recording folder.

What is written is what a live fold takes in: of each frame once, what can be read of it. Read by
offset through the same `Log` as everything else, so an outage is waited out and nothing is skipped.
"""

import shutil
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import zstandard

from correlator.frames import Doubles, Named, activated, opened
from correlator.recording import RULES_FILE, header_line, logged_lines
from firstfault.log import Log, LogError, Record, Span, between
from firstfault.log.control import read_domains, read_rules
from firstfault.playback import Moment
from schemas.base import canonical, document_of
from schemas.topics import LOG

EVENTS = "events.jsonl.zst"
TOPOLOGIES = (".json", ".yaml", ".yml")

OnProgress = Callable[[int, int], None]
"""Told how many offsets have been read, of how many."""


@dataclass(frozen=True)
class Stretch:
    """What of a log is wanted."""

    domain: str
    partition: int = 0
    log_generation: str = "0"
    topology: Path | None = None
    start: Moment | None = None
    end: Moment | None = None


@dataclass
class Written:
    """What became of the messages of a stretch."""

    messages: int = 0
    inputs: int = 0
    others: int = 0
    """Messages of other domains in the same partition."""
    doubles: int = 0
    unread: int = 0
    """Messages or inputs that could not be read."""
    rules: list[str] = field(default_factory=list)
    """Rule sets that commands name, by hash; those that are published are kept beside it."""
    rules_missing: list[str] = field(default_factory=list)


async def whole(log: Log, domain: str | None) -> Stretch:
    """Return all that is kept of a domain; by default of the only one there is.

    Raises:
        LogError: there is no such domain, or more than one.
    """
    known = await read_domains(log)
    if known is None:
        return Stretch(domain or await _first_named(log))
    names = ", ".join(sorted(known.by_name))
    if domain is None and len(known.domains) > 1:
        msg = f"which domain? --domain takes one of {names}"
        raise LogError(msg)
    found = known.by_name.get(domain) if domain else known.domains[0]
    if found is None:
        msg = f"no domain {domain}, only {names}"
        raise LogError(msg)
    topology = Path(found.topology) if found.topology else None
    return Stretch(found.name, found.partition, known.log_generation, topology)


async def _first_named(log: Log) -> str:
    """Return the domain of a log whose domains nobody has named."""
    named = Named()
    async for records in between(log, LOG, await log.span(LOG)):
        if any(named.is_found(one.offset, one.log_us, one.value) for one in records):
            break
    if not named.domain:
        raise LogError("the log holds no frame that can be read; --domain says which is meant")
    return named.domain


async def record(
    log: Log, stretch: Stretch, folder: Path, on_progress: OnProgress = lambda _done, _all: None
) -> Written:
    """Write a stretch of a log, as it is now, to a folder that is made for it.

    Raises:
        LogError: the log cannot be read, or the folder holds a recording already.
    """
    written = Written()
    with _recording(folder, stretch) as out:
        async for line in lines(log, stretch, written, on_progress):
            out.write(f"{line}\n".encode())
        await _keep_rules(log, folder, written)
    return written


async def _keep_rules(log: Log, folder: Path, written: Written) -> None:
    """Put the rule sets that commands name beside a recording, and say which are not published."""
    published = await read_rules(log) if written.rules else {}
    for name in written.rules:
        if name in published:
            text = canonical(document_of(published[name]))
            (folder / RULES_FILE.format(name)).write_text(text, encoding="utf-8")
        else:
            written.rules_missing.append(name)


@contextmanager
def _recording(folder: Path, stretch: Stretch) -> Iterator[zstandard.ZstdCompressionWriter]:
    """Open the file of a recording; one that is broken off is none."""
    if any(folder.glob("events.jsonl*")):
        msg = f"{folder}: there is a recording already; name another folder"
        raise LogError(msg)
    folder.mkdir(parents=True, exist_ok=True)
    part = folder / f"part-{EVENTS}"
    try:
        with part.open("wb") as raw, zstandard.ZstdCompressor().stream_writer(raw) as out:
            out.write(f"{header_line(stretch.domain, stretch.log_generation)}\n".encode())
            yield out
        if stretch.topology is not None:
            shutil.copyfile(stretch.topology, folder / f"topology{stretch.topology.suffix}")
        part.rename(folder / EVENTS)
    except OSError as error:
        msg = f"{folder}: {error.strerror}; no recording was written"
        raise LogError(msg) from error
    finally:
        part.unlink(missing_ok=True)


async def lines(
    log: Log, stretch: Stretch, written: Written, on_progress: OnProgress
) -> AsyncIterator[str]:
    """Yield the inputs of a stretch as lines of a recording, and count what becomes of the rest."""
    doubles = Doubles()
    async for one in _records(log, stretch, on_progress):
        frame = opened(one.offset, one.log_us, one.value)
        if frame.domain and frame.domain != stretch.domain:
            written.others += 1
            continue
        written.messages += 1
        if doubles.has(frame.frame_id):
            written.doubles += 1
            continue
        written.unread += len(frame.unread)
        names = map(activated, (given.input for given in frame.inputs))
        written.rules += [name for name in names if name and name not in written.rules]
        for line in logged_lines(one, frame) if frame.inputs else ():
            written.inputs += 1
            yield line


async def _records(log: Log, stretch: Stretch, on_progress: OnProgress) -> AsyncIterator[Record]:
    span = await log.span(LOG, stretch.partition)
    if span.first >= span.end:
        return
    first_us = await _stamp(log, stretch.partition, span)
    start = span.first
    if stretch.start is not None:
        start_us = stretch.start.after(first_us)
        start = await first_since(log, stretch.partition, span, start_us)
    end_us = stretch.end.after(first_us) if stretch.end else None
    async for records in between(log, LOG, Span(start, span.end), stretch.partition):
        on_progress(records[-1].offset + 1 - start, span.end - start)
        for one in records:
            if end_us is not None and one.log_us >= end_us:
                return
            yield one


async def first_since(log: Log, partition: int, span: Span, log_us: int) -> int:
    """Return the offset of the first record that is stamped at a time or later, by halving."""
    low, high = span.first, span.end
    while low < high:
        middle = (low + high) // 2
        if await _stamp(log, partition, Span(middle, span.end)) >= log_us:
            high = middle
        else:
            low = middle + 1
    return low


async def _stamp(log: Log, partition: int, span: Span) -> int:
    """Return the log time of the first record of a span that is not empty."""
    async for records in between(log, LOG, Span(span.first, span.first + 1), partition):
        return records[0].log_us
    msg = f"{LOG}/{partition}: offset {span.first} cannot be read"
    raise LogError(msg)

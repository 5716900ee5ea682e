"""What operators do with a running site: give commands, and read what it has said.

Works on any log; nothing here decides anything. A command is answered by a decision of the
correlator, or by a dead letter where it is not believed; who gave it waits for that.
"""

import asyncio
import difflib
import time
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Iterable
from contextlib import aclosing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal, TypeVar, cast

from pydantic import BaseModel, ValidationError

from correlator.frames import opened
from correlator.signatures import Signer
from firstfault.log import Log, Record, Span
from firstfault.log.frames import FrameWriter
from schemas.base import from_microseconds, to_microseconds
from schemas.inputs import (
    Command,
    CommandName,
    Event,
    Level,
    Pulse,
    Result,
    TopologyDelta,
)
from schemas.outputs import Action, DeadLetter, Decision, Incident
from schemas.topics import ACTIONS, DEAD_LETTERS, DECISIONS, INCIDENTS, LOG

QUIET_S = 1.0
"""A read of what is there ends when nothing comes for so long: compaction leaves holes."""
RECENT_MAX = 20_000
"""Messages of the log looked through for the entities that it speaks of."""
MEANT_MAX = 3
"""Names offered in place of one that nobody knows."""

M = TypeVar("M", bound=BaseModel)
Verdict = Literal["accepted", "refused", "unanswered"]


@dataclass(frozen=True)
class Site:
    """A domain of a log."""

    log: Log
    domain: str
    partition: int = 0
    log_generation: str = "0"


@dataclass(frozen=True)
class Answer:
    """What became of a command."""

    verdict: Verdict
    reason: str = ""
    """Enumerated, as the decision or the dead letter has it."""
    text: str = ""
    offset: int = -1
    """Of the command in the log."""


# ---- reading -------------------------------------------------------------------------------


async def kept(site: Site, topic: str, last: int | None = None) -> AsyncIterator[Record]:
    """Yield what a topic holds now; of nothing but the last so many offsets, if told."""
    span = await site.log.span(topic, site.partition)
    first = span.first if last is None else max(span.first, span.end - last)
    if first >= span.end:
        return
    async for record in _reading(site, topic, first, QUIET_S):
        if record.offset >= span.end:
            return
        yield record
        if record.offset == span.end - 1:
            return


async def following(site: Site, topic: str, offset: int, for_s: float) -> AsyncIterator[Record]:
    """Yield what comes to a topic from an offset on, for so long."""
    end_s = asyncio.get_running_loop().time() + for_s
    async for record in _reading(site, topic, offset, for_s):
        yield record
        if asyncio.get_running_loop().time() >= end_s:
            return


async def _reading(
    site: Site, topic: str, offset: int, quiet_s: float
) -> AsyncGenerator[Record, None]:
    """Yield records until nothing comes for so long."""
    reading = cast(
        "AsyncGenerator[list[Record], None]", site.log.read(topic, offset, site.partition)
    )
    async with aclosing(reading):
        while True:
            try:
                records = await asyncio.wait_for(anext(reading), quiet_s)
            except TimeoutError:
                return
            for record in records:
                yield record


async def said(site: Site, topic: str, model: type[M]) -> AsyncIterator[tuple[Record, M]]:
    """Yield what a topic holds of the site's domain; what is none of its messages is passed over.

    A topic that more than the correlator may write to can hold anything.
    """
    async for record in kept(site, topic):
        found = parsed(record, model)
        if found is not None and getattr(found, "domain", site.domain) == site.domain:
            yield record, found


def parsed(record: Record, model: type[M]) -> M | None:
    """Return the message of a record; None where it is none."""
    try:
        return model.model_validate_json(record.value)
    except ValidationError:
        return None


async def incidents(site: Site) -> dict[str, list[tuple[Record, Incident]]]:
    """Return what is kept of each incident by id, in order of opening, the newest update last.

    A worker that was cut off may have said an update once more after its successor said a newer.
    """
    found: dict[str, list[tuple[Record, Incident]]] = {}
    async for record, incident in said(site, INCIDENTS, Incident):
        found.setdefault(incident.incident_id, []).append((record, incident))
    for updates in found.values():
        updates.sort(key=lambda one: one[1].update)
    return found


async def decisions(site: Site) -> list[tuple[Record, Decision]]:
    """Return every decision that is kept, in order."""
    return [one async for one in said(site, DECISIONS, Decision)]


async def actions(site: Site) -> list[tuple[Record, Action]]:
    """Return every action that is kept, in order."""
    return [one async for one in said(site, ACTIONS, Action)]


async def results(site: Site) -> list[Result]:
    """Return every result in the log that is kept, in order."""
    found: list[Result] = []
    async for record in kept(site, LOG):
        if b'"idempotency_key"' in record.value:
            frame = opened(record.offset, record.log_us, record.value)
            found += [one.input for one in frame.inputs if isinstance(one.input, Result)]
    return found


SESSION_BEGINS = "maintenance_started"
SESSION_ENDS = frozenset({"maintenance_ended", "maintenance_overdue"})


@dataclass(frozen=True)
class Session:
    """A maintenance session that stands."""

    entity: str
    since: str
    """Log time."""
    text: str
    """By whom, and why."""
    until: str = ""
    """Log time; '' where the command that began it is no longer kept."""


async def sessions(site: Site) -> list[Session]:
    """Return the maintenance sessions that have not ended, with the end that was said of each."""
    return [
        Session(one.entity, one.decided_at, one.text, await _until(site, one))
        for one in await _standing(site)
    ]


async def _until(site: Site, began: Decision) -> str:
    """Return the end of a session as the command said it that stands at its decision's stamp."""
    stamp_us = to_microseconds(datetime.fromisoformat(began.decided_at))
    span = await site.log.span(LOG, site.partition)
    at = await _first_at(site, span, stamp_us)
    if at == span.end:
        return ""
    async for record in _reading(site, LOG, at, QUIET_S):
        if record.log_us > stamp_us:
            return ""
        for stamped in opened(record.offset, record.log_us, record.value).inputs:
            one = stamped.input
            if isinstance(one, Command) and (one.target, bool(one.until)) == (began.entity, True):
                return from_microseconds(to_microseconds(cast("datetime", one.until)))
    return ""


async def _first_at(site: Site, span: Span, stamp_us: int) -> int:
    """Return the first offset that was stamped then or later; stamps never go back."""
    low, high = span.first, span.end
    while low < high:
        middle = (low + high) // 2
        record = await anext(_reading(site, LOG, middle, QUIET_S), None)
        if record is None or record.log_us >= stamp_us:
            high = middle
        else:
            low = record.offset + 1
    return low


async def _standing(site: Site) -> list[Decision]:
    """Return the decision that began each maintenance session that has not ended."""
    standing: dict[str, Decision] = {}
    async for _, one in said(site, DECISIONS, Decision):
        if one.reason == SESSION_BEGINS:
            standing[one.entity] = one
        elif one.reason in SESSION_ENDS:
            standing.pop(one.entity, None)
    return list(standing.values())


# ---- what may be meant ---------------------------------------------------------------------


async def entities(site: Site) -> set[str]:
    """Return the entities that the recent log and the incidents speak of."""
    found: set[str] = set()
    async for record in kept(site, LOG, RECENT_MAX):
        frame = opened(record.offset, record.log_us, record.value)
        if frame.domain == site.domain:
            for stamped in frame.inputs:
                found.update(_named(stamped.input))
    async for _, incident in said(site, INCIDENTS, Incident):
        found.update(cause.entity for cause in incident.causes)
        found.update(one.entity for one in incident.evidence)
    return found


def _named(given: object) -> Iterable[str]:
    """Return the entities that an input speaks of."""
    match given:
        case Event():
            return (given.entity,)
        case Pulse():
            return tuple(filter(None, (given.collector, given.host)))
        case Level():
            return tuple(fact.entity for fact in given.facts)
        case TopologyDelta():
            return tuple(filter(None, (given.node, given.from_, given.to)))
        case _:
            return ()


def meant(wanted: str, known: Iterable[str]) -> list[str]:
    """Return what is most like a name that nobody knows, the likeliest first.

    >>> meant("host:compute3", ["host:compute-3", "vm:db-1"])
    ['host:compute-3']
    """
    names = sorted(known)
    begun = [name for name in names if name.startswith(wanted)]
    return begun[:MEANT_MAX] or difflib.get_close_matches(wanted, names, MEANT_MAX)


# ---- commands ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Wanted:
    """A command that is to be given."""

    command: CommandName
    target: str
    by: str
    reason: str = ""
    until: datetime | None = None


async def give(
    site: Site, wanted: Wanted, signer: Signer | None, lasts_s: float, wait_s: float
) -> Answer:
    """Append a command, signed, and return what became of it.

    lasts_s: the command is good for so long; wait_s: for the answer; 0 waits for none.

    Raises:
        LogError: it was not appended.
    """
    given = _command(wanted, lasts_s)
    given = given if signer is None else signer.signed(given)
    ends = {
        topic: (await site.log.span(topic, site.partition)).end
        for topic in (DECISIONS, DEAD_LETTERS)
    }
    writer = FrameWriter(site.log, site.domain, wanted.by, site.partition)
    offset = await writer.write([given])
    if not wait_s:
        return Answer("unanswered", offset=offset)
    answering = [
        _decision(site, given, ends[DECISIONS], offset),
        _letter(site, ends[DEAD_LETTERS], offset),
    ]
    tasks = [asyncio.create_task(one) for one in answering]
    try:
        done, _ = await asyncio.wait(tasks, timeout=wait_s, return_when=asyncio.FIRST_COMPLETED)
        return next((one.result() for one in done), Answer("unanswered", offset=offset))
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _command(wanted: Wanted, lasts_s: float) -> Command:
    now = datetime.fromtimestamp(time.time(), UTC)
    return Command(
        command=wanted.command,
        target=wanted.target,
        until=wanted.until,
        by=wanted.by,
        reason=wanted.reason,
        command_id=uuid.uuid4().hex,
        expires_at=now + timedelta(seconds=lasts_s),
    )


async def _decision(site: Site, given: Command, begin: int, offset: int) -> Answer:
    """Wait for the decision that answers a command: its words, at its stamp or later."""
    own = await anext(_reading(site, LOG, offset, float("inf")))
    stamp = from_microseconds(own.log_us)
    words = f"{given.command} {given.target} by {given.by}"
    async for record in _reading(site, DECISIONS, begin, float("inf")):
        one = parsed(record, Decision)
        if one is not None and one.decided_at >= stamp and one.text.startswith(words):
            verdict: Verdict = "refused" if one.verdict == "refuse" else "accepted"
            return Answer(verdict, one.reason, one.text, offset)
    raise AssertionError  # A log is read for ever.


async def _letter(site: Site, begin: int, offset: int) -> Answer:
    """Wait for the dead letter of a command that is not believed."""
    async for record in _reading(site, DEAD_LETTERS, begin, float("inf")):
        one = parsed(record, DeadLetter)
        if one is not None and (one.source, one.position) == (LOG, offset):
            return Answer("refused", one.code, one.reason, offset)
    raise AssertionError  # A log is read for ever.

"""The log in one SQLite file: a table a topic, an offset is a row id, no broker.

Appends of all callers that come while one commit is written share the next one (group commit); each
is on the disk before `append` returns. Other processes may append and read at the same time.
SQLite in WAL mode with full synchronisation: https://sqlite.org/wal.html.
"""

import asyncio
import queue
import sqlite3
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from weakref import WeakKeyDictionary

from firstfault.log import (
    LogError,
    Message,
    OffsetGoneError,
    Record,
    Span,
    check_messages,
)
from schemas.topics import LOCAL_FILE, TOPICS

BUSY_S = 5.0
"""How long an append waits for those of other processes."""
GROUP_MAX = 256
"""Appends that share a commit."""
QUEUE_MAX = 4_096
"""Appends that wait for a commit; further callers wait before they are let in."""
READ_MAX = 1_000
"""Records read at a time."""
POLL_S = 0.005
"""How often a reader asks whether another process has appended."""
CLOSED = "the log is closed; nothing was appended"
COMPACTED = frozenset(one.name for one in TOPICS if one.compacted)
TRIM_S = 10.0
"""How often what is older or more than is kept is dropped."""
DROP_MAX = 2_000
"""Rows dropped in one commit: appends wait some ten milliseconds for them."""
REPLACED_S = 3_600
"""So long a message stays that a newer one of its key has replaced: who reads along has seen it."""

Clock = Callable[[], int]


def _now_us() -> int:
    return time.time_ns() // 1000


@dataclass(frozen=True, slots=True)
class Retention:
    """How much is kept; what is over either bound is dropped, the oldest first.

    Of a compacted topic the newest message of each key is kept for ever.
    """

    ages_us: Mapping[str, int] = field(default_factory=dict)
    """By topic; those that are not named are kept for ever."""
    size_bytes: int | None = None
    """Of the file, without what of it is free for new messages."""

    @classmethod
    def everything(cls, age_us: int, size_bytes: int | None = None) -> "Retention":
        """Return one age for all topics."""
        return cls(dict.fromkeys(KEPT_US, age_us), size_bytes)


KEPT_US = {one.name: one.keep_s * 1_000_000 for one in TOPICS if not one.compacted}
"""How long messages are kept unless something else is said, by topic: as on a cluster."""
KEPT_BYTES = 10 * 2**30
"""The same for the file: 17 kB/s for a week."""


@dataclass
class _Append:
    topic: str
    messages: Sequence[Message]
    done: Callable[[int | LogError], None]


@dataclass(frozen=True, eq=False)
class _Reader:
    loop: asyncio.AbstractEventLoop
    news: asyncio.Event

    def wake(self) -> None:
        """Say, from another thread, that there may be more to read."""
        with suppress(RuntimeError):  # Its loop has ended.
            self.loop.call_soon_threadsafe(self.news.set)


@dataclass
class LocalLog:
    """A log in one file; see `open_local`."""

    file: Path
    clock: Clock = _now_us
    retention: Retention = field(default_factory=Retention)
    pages_max: int | None = None
    """Pages of the file, of 4 kB: a bound on its size; past it an append says that it is full."""

    def __post_init__(self) -> None:
        """Begin to write; reading opens a connection of its own for each reader."""
        self._queue: queue.Queue[_Append | None] = queue.Queue(QUEUE_MAX)
        self._turns: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Lock]
        self._turns = WeakKeyDictionary()
        """Of those who append, one a loop."""
        self._readers: set[_Reader] = set()
        self._time = _Time(self._clock_us)
        self._trim_s = time.monotonic() + TRIM_S
        """When it is looked next what is to be dropped."""
        self._compacted: dict[str, int] = {}
        """compacted topic → offset up to which it was looked through"""
        self._closed = False
        self._writer = threading.Thread(target=self._write, name="local-log", daemon=True)
        self._writer.start()

    async def append(self, topic: str, messages: Sequence[Message], partition: int = 0) -> int:
        """See `Log.append`."""
        _only_one(partition)
        check_messages(topic, messages)
        loop = asyncio.get_running_loop()
        told: asyncio.Future[int] = loop.create_future()

        def done(outcome: int | LogError) -> None:
            with suppress(RuntimeError):  # The loop has ended: nobody waits any more.
                loop.call_soon_threadsafe(_tell, told, outcome)

        asked = _Append(topic, messages, done)
        # A lock lets in whoever has waited longest: nobody overtakes, or a producer's later frame
        # would stand before an earlier one, which then passes for a double.
        async with self._turns.setdefault(loop, asyncio.Lock()):
            if self._closed:
                raise LogError(CLOSED)
            await self._asks(asked)
        return await told

    async def _asks(self, asked: _Append | None) -> None:
        try:
            self._queue.put_nowait(asked)
        except queue.Full:
            await asyncio.to_thread(self._queue.put, asked)
        if self._closed:  # The writer ended meanwhile, and may have looked before.
            self._refuse_all()

    async def prepare(self, topics: Sequence[str], partition: int = 0) -> None:
        """See `Log.prepare`; a file asks nobody where a topic is."""
        _only_one(partition)

    async def read(
        self, topic: str, offset: int, partition: int = 0
    ) -> AsyncIterator[list[Record]]:
        """See `Log.read`."""
        _only_one(partition)
        reader = _Reader(asyncio.get_running_loop(), asyncio.Event())
        self._readers.add(reader)
        try:
            with _opened(self.file) as db:
                _check_kept(topic, offset, _span(db, topic))
                while True:
                    reader.news.clear()
                    records = _after(db, topic, offset)
                    if records:
                        _check_kept(topic, offset, Span(records[0].offset, records[-1].offset + 1))
                        offset = records[-1].offset + 1
                        yield records
                    else:
                        # `wait_for` may swallow a cancellation in Python 3.11.
                        with suppress(TimeoutError):
                            async with asyncio.timeout(POLL_S):
                                await reader.news.wait()
        finally:
            self._readers.discard(reader)

    async def delete(self, topic: str, keys: Sequence[str], partition: int = 0) -> None:
        """See `Log.delete`."""
        _only_one(partition)
        try:
            await asyncio.to_thread(_delete, self.file, topic, keys)
        except sqlite3.Error as error:
            msg = f"{_said(self.file, error)}; nothing was deleted"
            raise LogError(msg) from error

    async def span(self, topic: str, partition: int = 0) -> Span:
        """See `Log.span`."""
        _only_one(partition)
        with _opened(self.file) as db:
            return _span(db, topic)

    async def trim(self) -> None:
        """Drop at once what is no longer kept."""
        is_more = True
        with _opened(self.file) as db:
            while is_more:
                is_more = self._trim(db)
                await asyncio.sleep(0)

    async def close(self) -> None:
        """See `Log.close`."""
        # In its turn: those who wait to be let in came before.
        async with self._turns.setdefault(asyncio.get_running_loop(), asyncio.Lock()):
            await self._asks(None)
        await asyncio.to_thread(self._writer.join)

    def _clock_us(self) -> int:
        return self.clock()

    # ---- the one thread that writes --------------------------------------------------------

    def _write(self) -> None:
        try:
            with closing(_connected(self.file)) as db:
                if self.pages_max is not None:
                    db.execute(f"PRAGMA max_page_count={self.pages_max:d}")
                self._write_on(db)
        finally:
            self._closed = True
            self._refuse_all()

    def _refuse_all(self) -> None:
        with suppress(queue.Empty):
            while True:
                left = self._queue.get_nowait()
                if left is not None:
                    left.done(LogError(CLOSED))

    def _write_on(self, db: sqlite3.Connection) -> None:
        is_open = True
        while is_open:
            group = self._waiting()
            is_open = group[-1] is not None
            asked = [one for one in group if one is not None]
            if asked:
                self._commit(db, asked)
            if time.monotonic() >= self._trim_s:
                self._trim(db)

    def _waiting(self) -> list[_Append | None]:
        """Return what waits to be written, at least one; None, the last, says to end."""
        group = [self._queue.get()]
        while group[-1] is not None and len(group) < GROUP_MAX:
            try:
                group.append(self._queue.get_nowait())
            except queue.Empty:
                break
        return group

    def _commit(self, db: sqlite3.Connection, group: list[_Append]) -> None:
        outcomes: list[int | LogError]
        try:
            db.execute("BEGIN IMMEDIATE")
            outcomes = [self._insert(db, one) for one in group]
            db.execute("COMMIT")
        except Exception as error:  # noqa: BLE001 - whatever it is, those who wait are told
            with suppress(sqlite3.Error):
                db.execute("ROLLBACK")
            words = f"{_said(self.file, error)}; nothing was appended"
            outcomes = [LogError(words)] * len(group)
        for one, outcome in zip(group, outcomes, strict=True):
            one.done(outcome)
        for reader in tuple(self._readers):
            reader.wake()

    def _insert(self, db: sqlite3.Connection, asked: _Append) -> int:
        _make(db, asked.topic)
        (last_us,) = db.execute(
            f"SELECT log_us FROM {_table(asked.topic)} ORDER BY offset DESC LIMIT 1"
        ).fetchone() or (0,)
        log_us = self._time.after(asked.topic, last_us)
        insert = f"INSERT INTO {_table(asked.topic)} (log_us, key, value) VALUES (?, ?, ?)"
        cursor = db.cursor()
        for message in asked.messages:
            cursor.execute(insert, (log_us, message.key, message.value))
        return (cursor.lastrowid or 0) - len(asked.messages) + 1

    def _trim(self, db: sqlite3.Connection) -> bool:
        """Drop a part of what is no longer kept; claim that there may be more."""
        now_us, is_more = self.clock(), False
        with suppress(sqlite3.Error):  # A full disk is told to those who append.
            for topic in _topics(db):
                if topic in COMPACTED:
                    is_more |= self._compact(db, topic, now_us - REPLACED_S * 1_000_000)
                elif topic in self.retention.ages_us:
                    until_us = now_us - self.retention.ages_us[topic]
                    is_more |= _drop(db, topic, DROP_MAX, until_us) == DROP_MAX
            if self.retention.size_bytes is not None:
                is_more |= _drop_over(db, self.retention.size_bytes)
        self._trim_s = time.monotonic() + (0.0 if is_more else TRIM_S)
        return is_more

    def _compact(self, db: sqlite3.Connection, topic: str, until_us: int) -> bool:
        """Drop messages that newer ones of their key have replaced; claim that there may be more.

        Looks at so many a time, and at each once: one that is replaced later is dropped at the
        next start.
        """
        table, first = _table(topic), self._compacted.get(topic, 0)
        rows = db.execute(
            f"SELECT offset, key FROM {table} WHERE offset >= ? AND log_us < ? "
            "ORDER BY offset LIMIT ?",
            (first, until_us, DROP_MAX),
        ).fetchall()
        newer = f"SELECT 1 FROM {table} WHERE key = ? AND offset > ?"
        old = [(offset,) for offset, key in rows if db.execute(newer, (key, offset)).fetchone()]
        with db:
            db.execute("BEGIN IMMEDIATE")
            db.executemany(f"DELETE FROM {table} WHERE offset = ?", old)
        self._compacted[topic] = rows[-1][0] + 1 if rows else first
        return len(rows) == DROP_MAX


class _Time:
    """The time of the log: the clock's; where that was set back, half as fast until it is there.

    What waits for a time must not wait until the clock has caught up; nor may the log stay ahead of
    it for ever, for consumers trust nothing whose stamp is ahead of their clock.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._ahead: dict[str, tuple[int, int]] = {}
        """topic → its last stamp and the monotonic clock when the clock was found behind it"""

    def after(self, topic: str, last_us: int) -> int:
        """Return the stamp of what follows a stamp."""
        now_us, monotonic_us = self._clock(), time.monotonic_ns() // 1000
        if now_us >= last_us:
            self._ahead.pop(topic, None)
            return now_us
        from_us, since_us = self._ahead.setdefault(topic, (last_us, monotonic_us))
        return max(last_us, from_us + (monotonic_us - since_us) // 2)


def open_local(
    folder: Path,
    *,
    clock: Clock = _now_us,
    retention: Retention | None = None,
    pages_max: int | None = None,
) -> LocalLog:
    """Return the log of a folder, made there if there is none.

    Raises:
        LogError: the folder cannot be written, or holds something else by that name.
    """
    file = folder / LOCAL_FILE
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        msg = f"{file}: {error}"
        raise LogError(msg) from error
    with _opened(file) as db:
        db.execute("PRAGMA journal_mode=WAL")
    return LocalLog(file, clock, retention or Retention(), pages_max)


def all_records(file: Path, topic: str) -> Iterator[Record]:
    """Yield what a topic holds now, in order, of a log that others may be writing to.

    Raises:
        LogError: it cannot be read.
    """
    with _opened(file) as db:
        offset = _span(db, topic).first
        while records := _after(db, topic, offset):
            _check_kept(topic, offset, Span(records[0].offset, records[-1].offset + 1))
            yield from records
            offset = records[-1].offset + 1


def _tell(told: "asyncio.Future[int]", outcome: int | LogError) -> None:
    if told.done():
        return
    if isinstance(outcome, LogError):
        told.set_exception(outcome)
    else:
        told.set_result(outcome)


def _only_one(partition: int) -> None:
    if partition:
        msg = f"a local log has one partition, 0, and no {partition}"
        raise LogError(msg)


# ---- the file ------------------------------------------------------------------------------


def _connected(file: Path) -> sqlite3.Connection:
    db = sqlite3.connect(file, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
    db.execute("PRAGMA synchronous=FULL")
    return db


@contextmanager
def _opened(file: Path) -> Iterator[sqlite3.Connection]:
    """Yield a connection; what SQLite says against the file is a `LogError` that names it."""
    try:
        with closing(_connected(file)) as db:
            yield db
    except sqlite3.Error as error:
        raise LogError(_said(file, error)) from error


def _said(file: Path, error: Exception) -> str:
    hint = " (is its disk full?)" if "disk I/O" in str(error) else ""
    return f"{file}: {error}{hint}"


def _table(topic: str) -> str:
    """Return a topic as SQL names a table."""
    quoted = topic.replace('"', '""')
    return f'"{quoted}"'


def _topics(db: sqlite3.Connection) -> list[str]:
    found = db.execute("SELECT name FROM sqlite_master WHERE type='table' ORDER BY name")
    return [name for (name,) in found if not name.startswith("sqlite_")]


def _make(db: sqlite3.Connection, topic: str) -> None:
    # AUTOINCREMENT: a row id is never given twice, not even after the newest row was dropped.
    db.execute(
        f"CREATE TABLE IF NOT EXISTS {_table(topic)} (offset INTEGER PRIMARY KEY AUTOINCREMENT, "
        "log_us INTEGER NOT NULL, key TEXT NOT NULL, value BLOB NOT NULL)"
    )
    if topic in COMPACTED:
        name = _table(f"{topic} by key")
        db.execute(f"CREATE INDEX IF NOT EXISTS {name} ON {_table(topic)} (key, offset)")


def _delete(file: Path, topic: str, keys: Sequence[str]) -> None:
    with closing(_connected(file)) as db, db:
        db.execute("BEGIN IMMEDIATE")
        rows = [(key,) for key in keys]
        db.executemany(f"DELETE FROM {_table(topic)} WHERE key = ?", rows)


def _after(db: sqlite3.Connection, topic: str, offset: int) -> list[Record]:
    try:
        rows = db.execute(
            f"SELECT offset, log_us, key, value FROM {_table(topic)} "
            "WHERE offset >= ? ORDER BY offset LIMIT ?",
            (offset, READ_MAX),
        )
        return [Record(*row) for row in rows]
    except sqlite3.OperationalError as error:
        if "no such table" in str(error):  # Nothing has been appended yet.
            return []
        raise


def _span(db: sqlite3.Connection, topic: str) -> Span:
    if topic not in _topics(db):
        return Span(1, 1)
    (first,) = db.execute(f"SELECT min(offset) FROM {_table(topic)}").fetchone()
    (last,) = db.execute("SELECT seq FROM sqlite_sequence WHERE name = ?", (topic,)).fetchone()
    return Span(last + 1 if first is None else first, last + 1)


def _check_kept(topic: str, offset: int, span: Span) -> None:
    first = 0 if topic in COMPACTED else span.first  # A compacted topic has holes, as it should.
    if not first <= offset <= span.end:
        msg = f"{topic}: offset {offset} is not kept, only {span.first} to {span.end - 1}"
        raise OffsetGoneError(msg)


def _drop(db: sqlite3.Connection, topic: str, rows: int, until_us: int = 2**62) -> int:
    """Drop the oldest rows of a topic, as far as they are from before a time; return how many."""
    table = _table(topic)
    oldest = f"SELECT offset FROM {table} ORDER BY offset LIMIT ?"
    drop = f"DELETE FROM {table} WHERE offset IN ({oldest}) AND log_us < ?"
    return db.execute(drop, (rows, until_us)).rowcount


def _drop_over(db: sqlite3.Connection, size_bytes: int) -> bool:
    """Drop some of the oldest where the file holds more; claim that there may be more to drop."""
    if _used_bytes(db) <= size_bytes:
        return False
    firsts = {
        topic: db.execute(f"SELECT min(offset), log_us FROM {_table(topic)}").fetchone()
        for topic in _topics(db)
        if topic not in COMPACTED
    }
    ages = [(log_us, topic) for topic, (first, log_us) in firsts.items() if first is not None]
    if not ages:
        return False
    topic = min(ages)[1]
    span = _span(db, topic)
    _drop(db, topic, min(DROP_MAX, max(1, (span.end - span.first) // 16)))
    return True


def _used_bytes(db: sqlite3.Connection) -> int:
    pages, free, page_bytes = (
        int(db.execute(f"PRAGMA {name}").fetchone()[0])
        for name in ("page_count", "freelist_count", "page_size")
    )
    return (pages - free) * page_bytes

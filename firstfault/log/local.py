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
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
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

Clock = Callable[[], int]


def _now_us() -> int:
    return time.time_ns() // 1000


@dataclass(frozen=True, slots=True)
class Retention:
    """How much of each topic is kept; what is over either bound is dropped, the oldest first."""

    age_us: int | None = None
    size_bytes: int | None = None
    """Of the messages of one topic."""


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
        self._trimmed_s = time.monotonic()
        self._closed = False
        self._writer = threading.Thread(target=self._write, name="local-log", daemon=True)
        self._writer.start()

    async def append(self, topic: str, messages: Sequence[Message], partition: int = 0) -> int:
        """See `Log.append`."""
        _only_one(partition)
        check_messages(topic, messages)
        if self._closed:
            raise LogError(CLOSED)
        loop = asyncio.get_running_loop()
        told: asyncio.Future[int] = loop.create_future()

        def done(outcome: int | LogError) -> None:
            with suppress(RuntimeError):  # The loop has ended: nobody waits any more.
                loop.call_soon_threadsafe(_tell, told, outcome)

        asked = _Append(topic, messages, done)
        # A lock lets in whoever has waited longest: nobody overtakes, or a producer's later frame
        # would stand before an earlier one, which then passes for a double.
        async with self._turns.setdefault(loop, asyncio.Lock()):
            try:
                self._queue.put_nowait(asked)
            except queue.Full:
                await asyncio.to_thread(self._queue.put, asked)
        return await told

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
                        _check_kept(topic, offset, Span(records[0].offset, offset))
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
        with _opened(self.file) as db:
            self._trim(db)

    async def close(self) -> None:
        """See `Log.close`."""
        await asyncio.to_thread(self._queue.put, None)
        await asyncio.to_thread(self._writer.join)

    # ---- the one thread that writes --------------------------------------------------------

    def _write(self) -> None:
        try:
            with closing(_connected(self.file)) as db:
                if self.pages_max is not None:
                    db.execute(f"PRAGMA max_page_count={self.pages_max:d}")
                self._write_on(db)
        finally:
            self._closed = True
            while not self._queue.empty():
                left = self._queue.get()
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
            if time.monotonic() - self._trimmed_s >= TRIM_S:
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
        except sqlite3.Error as error:
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
        log_us = max(self.clock(), last_us)
        insert = f"INSERT INTO {_table(asked.topic)} (log_us, key, value) VALUES (?, ?, ?)"
        cursor = db.cursor()
        for message in asked.messages:
            cursor.execute(insert, (log_us, message.key, message.value))
        return (cursor.lastrowid or 0) - len(asked.messages) + 1

    def _trim(self, db: sqlite3.Connection) -> None:
        self._trimmed_s = time.monotonic()
        for topic in _topics(db):
            if topic in COMPACTED:  # Its newest messages count, however old; old ones are deleted.
                continue
            with suppress(sqlite3.Error):  # A full disk is told to those who append.
                _drop(db, topic, self.retention, self.clock())


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


def _said(file: Path, error: sqlite3.Error) -> str:
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
    if not span.first <= offset <= span.end:
        msg = f"{topic}: offset {offset} is not kept, only {span.first} to {span.end - 1}"
        raise OffsetGoneError(msg)


def _drop(db: sqlite3.Connection, topic: str, retention: Retention, now_us: int) -> None:
    table = _table(topic)
    if retention.age_us is not None:
        db.execute(f"DELETE FROM {table} WHERE log_us < ?", (now_us - retention.age_us,))
    if retention.size_bytes is not None:
        db.execute(
            f"DELETE FROM {table} WHERE offset <= (SELECT max(offset) FROM (SELECT offset, "
            f"sum(length(value)) OVER (ORDER BY offset DESC) AS kept FROM {table}) "
            "WHERE kept > ?)",
            (retention.size_bytes,),
        )

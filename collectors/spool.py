"""What waits on the disk while the log cannot be reached: events, bounded, the oldest first.

Lists and pulses are not kept: what they say holds for now, and the next one says it again. A spool
that is full drops its oldest. Each change is on the disk when it returns, so a restart loses none.
"""

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Self

from schemas.base import canonical, document_of
from schemas.inputs import FRAME_INPUTS_MAX, Event

EVENTS_MAX = 100_000
"""With 400 bytes each, 40 MB: at ten changes a second the first three hours of an outage."""
_SCHEMA = """
CREATE TABLE IF NOT EXISTS events (number INTEGER PRIMARY KEY AUTOINCREMENT, event BLOB NOT NULL);
"""


@dataclass(frozen=True)
class Kept:
    """An event and its number in the spool."""

    number: int
    event: Event


class Spool:
    """Events of one collector in a file; used by one process."""

    def __init__(self, file: Path, events_max: int = EVENTS_MAX) -> None:
        """Open a spool, made if there is none.

        Raises:
            OSError: its folder cannot be made.
            sqlite3.Error: the file cannot be used.
        """
        file.parent.mkdir(parents=True, exist_ok=True)
        self._file = file
        self._events_max = events_max
        self.dropped = 0
        """Events that found no room, or could not be written."""
        with closing(self._connected()) as db:
            db.execute("PRAGMA journal_mode=WAL")
            db.executescript(_SCHEMA)
            (self.count,) = db.execute("SELECT count(*) FROM events").fetchone()

    @classmethod
    @contextmanager
    def temporary(cls) -> Iterator[Self]:
        """Yield one that is gone afterwards."""
        with TemporaryDirectory() as folder:
            yield cls(Path(folder) / "spool.db")

    def add(self, events: Sequence[Event]) -> None:
        """Keep events, in their order; where there is no room, the oldest are dropped."""
        rows = [(canonical(document_of(event)),) for event in events]
        try:
            with closing(self._connected()) as db, db:
                db.executemany("INSERT INTO events (event) VALUES (?)", rows)
                over = max(0, self.count + len(rows) - self._events_max)
                db.execute(
                    "DELETE FROM events WHERE number IN "
                    "(SELECT number FROM events ORDER BY number LIMIT ?)",
                    (over,),
                )
        except sqlite3.Error:
            self.dropped += len(rows)
            return
        self.dropped += over
        self.count += len(rows) - over

    def first(self) -> list[Kept]:
        """Return the oldest, as many as fit a frame.

        Raises:
            sqlite3.Error: the file cannot be read.
        """
        with closing(self._connected()) as db:
            rows = db.execute(
                "SELECT number, event FROM events ORDER BY number LIMIT ?", (FRAME_INPUTS_MAX,)
            )
            return [Kept(number, Event.model_validate_json(text)) for number, text in rows]

    def forget(self, through: int) -> None:
        """Forget what has been acknowledged, up to a number.

        Raises:
            sqlite3.Error: the file cannot be written; what is sent twice is known by its id.
        """
        with closing(self._connected()) as db, db:
            db.execute("DELETE FROM events WHERE number <= ?", (through,))
            (self.count,) = db.execute("SELECT count(*) FROM events").fetchone()

    def _connected(self) -> sqlite3.Connection:
        db = sqlite3.connect(self._file, check_same_thread=False)
        db.execute("PRAGMA synchronous=FULL")
        return db

"""What a consumer of actions must not forget: keys, epochs, tokens, places read, answers owed.

One SQLite file that survives a crash at any moment; each change is on the disk before the method
returns. One consumer uses it, from one thread at a time.
"""

import fcntl
import json
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from firstfault.consumer.duties import UNLOCKED_VERBS, Known, Outcome, lease_us, us_of
from firstfault.log import LogError
from schemas.base import canonical, document_of
from schemas.outputs import Action

KEPT_US = 7 * 86_400_000_000
"""How long an ended action is remembered past its expiry: after that it is refused as expired."""
_SCHEMA = """
CREATE TABLE IF NOT EXISTS entries (
    key TEXT PRIMARY KEY, target TEXT NOT NULL, state TEXT NOT NULL, proof TEXT NOT NULL,
    action TEXT NOT NULL, locked_until_us INTEGER NOT NULL, expires_us INTEGER NOT NULL);
CREATE INDEX IF NOT EXISTS by_target ON entries (target) WHERE state = 'BEGUN';
CREATE TABLE IF NOT EXISTS highest (what TEXT PRIMARY KEY, number INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS places (place TEXT PRIMARY KEY, next INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS owed (
    number INTEGER PRIMARY KEY AUTOINCREMENT, topic TEXT NOT NULL, part INTEGER NOT NULL,
    key TEXT NOT NULL, value BLOB NOT NULL);
"""
BEGUN = "BEGUN"


@dataclass(frozen=True)
class Owed:
    """A message that is to be appended, and has not been acknowledged yet."""

    number: int
    topic: str
    partition: int
    key: str
    value: bytes


class Ledger:
    """The memory of one consumer; see `open_ledger`."""

    def __init__(self, db: sqlite3.Connection, lock: IO[str]) -> None:
        self._db = db
        self._lock = lock

    # ---- what is known ---------------------------------------------------------------------

    def known(self, action: Action, generation: str, *, is_running: bool = False) -> Known:
        """Return what bears upon an action."""
        row = self._one("SELECT state, proof FROM entries WHERE key = ?", action.idempotency_key)
        has_begun = row is not None and row[0] == BEGUN
        (locked_until_us,) = self._one(
            "SELECT coalesce(max(locked_until_us), 0) FROM entries "
            "WHERE state = 'BEGUN' AND target = ? AND key != ?",
            action.target,
            action.idempotency_key,
        ) or (0,)
        return Known(
            Outcome(row[0], json.loads(row[1])) if row and not has_begun else None,
            has_begun=has_begun,
            is_running=is_running,
            epoch=self._highest(_epoch(action, generation)),
            token=self._highest(_token(action, generation)),
            locked_until_us=locked_until_us,
        )

    def is_fenced(self, target: str, keys: list[str]) -> bool:
        """Claim that one of these keys is of a fence of the target that ended CONFIRMED here."""
        for key in keys:
            row = self._one("SELECT state, action FROM entries WHERE key = ?", key)
            if row is not None and row[0] == "CONFIRMED":
                action = Action.model_validate_json(row[1])
                if (action.verb, action.target) == ("fence", target):
                    return True
        return False

    def unended(self) -> list[Action]:
        """Return what was begun, and of which nobody knows how it ended."""
        rows = self._db.execute("SELECT action FROM entries WHERE state = 'BEGUN' ORDER BY rowid")
        return [Action.model_validate_json(text) for (text,) in rows]

    # ---- what is to be remembered ----------------------------------------------------------

    def note(self, action: Action, generation: str) -> None:
        """Remember the epoch and the token of an action: whatever is lower counts no more."""
        told = {_epoch(action, generation): action.epoch}
        told[_token(action, generation)] = action.fence_token
        news = {what: number for what, number in told.items() if number > self._highest(what)}
        if news:
            with self.at_once():
                for what, number in news.items():
                    self._raise(what, number)

    def begin(self, action: Action, now_us: int) -> None:
        """Remember that an action is carried out from now on: it never is a second time."""
        until_us = 0 if action.verb in UNLOCKED_VERBS else now_us + lease_us(action)
        with self.at_once():
            self._enter(action, BEGUN, "{}", until_us)

    def end(self, action: Action, outcome: Outcome) -> None:
        """Remember how an action ended."""
        proof = canonical(dict(outcome.proof))
        with self.at_once():
            done = self._db.execute(
                "UPDATE entries SET state = ?, proof = ? WHERE key = ?",
                (outcome.state, proof, action.idempotency_key),
            )
            if not done.rowcount:
                self._enter(action, outcome.state, proof, 0)

    def revoke(self, action: Action) -> Outcome | None:
        """See to it that a key is never begun; return how it has ended, if it has.

        None: it has been begun, and runs or has ended in a way that nobody knows.
        """
        revoked = Outcome("REJECTED", {"reason": "revoked"})
        key = action.parameters.get("revokes", "")
        with self.at_once():
            row = self._one("SELECT state, proof FROM entries WHERE key = ?", key)
            if row is not None:
                return None if row[0] == BEGUN else Outcome(row[0], json.loads(row[1]))
            stub = action.model_copy(update={"idempotency_key": key})
            self._enter(stub, revoked.state, canonical(dict(revoked.proof)), 0)
        return revoked

    # ---- places and answers ----------------------------------------------------------------

    def place(self, topic: str, partition: int) -> int | None:
        """Return the offset to read next; None where nothing was read yet."""
        row = self._one("SELECT next FROM places WHERE place = ?", f"{topic} {partition}")
        return None if row is None else int(row[0])

    def move(self, topic: str, partition: int, offset: int) -> None:
        """Remember the offset to read next."""
        with self.at_once():
            self._db.execute(
                "INSERT OR REPLACE INTO places VALUES (?, ?)", (f"{topic} {partition}", offset)
            )

    def owe(self, topic: str, partition: int, key: str, value: bytes) -> None:
        """Remember a message until it is acknowledged."""
        with self.at_once():
            self._db.execute(
                "INSERT INTO owed (topic, part, key, value) VALUES (?, ?, ?, ?)",
                (topic, partition, key, value),
            )

    def owed(self) -> list[Owed]:
        """Return what is to be appended, the oldest first."""
        rows = self._db.execute("SELECT number, topic, part, key, value FROM owed ORDER BY number")
        return [Owed(*row) for row in rows]

    def paid(self, owed: Owed) -> None:
        """Forget a message that was acknowledged, and those that were owed before it."""
        with self.at_once():
            self._db.execute("DELETE FROM owed WHERE number <= ?", (owed.number,))

    def forget(self, now_us: int) -> None:
        """Forget what ended so long ago that it could not run again in any case."""
        with self.at_once():
            self._db.execute(
                "DELETE FROM entries WHERE state != 'BEGUN' AND expires_us < ?", (now_us - KEPT_US,)
            )

    def close(self) -> None:
        """Let go of the file."""
        self._db.close()
        self._lock.close()

    # ---- SQL -------------------------------------------------------------------------------

    def _one(self, sql: str, *values: object) -> tuple[Any, ...] | None:
        row: tuple[Any, ...] | None = self._db.execute(sql, values).fetchone()
        return row

    def _highest(self, what: str) -> int:
        row = self._one("SELECT number FROM highest WHERE what = ?", what)
        return 0 if row is None else int(row[0])

    def _raise(self, what: str, number: int) -> None:
        self._db.execute(
            "INSERT INTO highest VALUES (?, ?) ON CONFLICT (what) "
            "DO UPDATE SET number = max(number, excluded.number)",
            (what, number),
        )

    def _enter(self, action: Action, state: str, proof: str, until_us: int) -> None:
        self._db.execute(
            "INSERT INTO entries VALUES (?, ?, ?, ?, ?, ?, ?)",
            (
                action.idempotency_key,
                action.target,
                state,
                proof,
                canonical(document_of(action)),
                until_us,
                us_of(action.expires_at),
            ),
        )

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """Have all changes made within on the disk afterwards, or none; it may be nested."""
        if self._db.in_transaction:
            yield
            return
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._db.execute("COMMIT")
        except BaseException as error:
            with suppress(sqlite3.Error):
                self._db.execute("ROLLBACK")
            if isinstance(error, sqlite3.Error):
                msg = f"the ledger cannot be written, so nothing may run: {error}"
                raise LogError(msg) from error
            raise


def open_ledger(file: Path) -> Ledger:
    """Return the ledger of a file, made if there is none, for this process alone.

    Raises:
        LogError: it cannot be used, or another consumer has it.
    """
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        lock = file.with_name(f"{file.name}.lock").open("w")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            lock.close()
            msg = f"{file}: another consumer has this ledger; give each its own"
            raise LogError(msg) from None
        # A user may make a consumer in one thread and run it in another.
        db = sqlite3.connect(file, isolation_level=None, check_same_thread=False)
        db.execute("PRAGMA journal_mode=WAL")
        db.execute("PRAGMA synchronous=FULL")
        db.executescript(_SCHEMA)
    except (OSError, sqlite3.Error) as error:
        msg = f"{file}: {error}"
        raise LogError(msg) from error
    return Ledger(db, lock)


def _epoch(action: Action, generation: str) -> str:
    return f"epoch {generation} {action.domain}"


def _token(action: Action, generation: str) -> str:
    return f"token {generation} {action.target}"

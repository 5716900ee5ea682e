"""``firstfault run --local``: one process, one file, no broker.

Reads the log of a folder, folds it, and appends what is said to the topics of the same file. Time
is the log's: a tick is appended when a deadline falls due, and at least once a second.
"""

import asyncio
import fcntl
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from correlator.lease import Alone
from correlator.library import Library
from correlator.live import Told
from correlator.shell import Means, OnTold, Shell, Site
from firstfault.log import Log, LogError
from schemas.topics import LOG

__all__ = ["Correlator", "Site", "alone"]

LOOK_S = 0.005
"""How often it is asked at the least when a tick is due. The design's 50 ms would be all there is
from a cut to its notice; asking costs microseconds, and a tick leaves only when it is due."""
SNAPSHOT_S = 10.0
"""How often a snapshot is due: what is folded again after a start is that much of the log."""
LOCK = "correlator.lock"

OnTrouble = Callable[[str], None]


def _nothing(_: Told) -> None:
    return None


def _say(trouble: str) -> None:
    sys.stderr.write(f"{trouble}\n")


class Correlator:
    """Folds one domain of a log for ever, and publishes what may leave."""

    def __init__(
        self, log: Log, site: Site, on_told: OnTold = _nothing, on_trouble: OnTrouble = _say
    ) -> None:
        self._log, self._on_trouble = log, on_trouble
        library = Library(log, on_trouble)
        self._shell = Shell(Means(log, log, Alone(), on_told, library), 0, [site])

    async def run(self) -> None:
        """Fold what is there, claim the right to speak, and go on until cancelled."""
        await self._shell.recover()
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._read())
                tasks.create_task(self._look())
                tasks.create_task(self._snapshots())
        finally:
            if self._shell.published == self._shell.partition.next_offset - 1:
                await self._snapshot(records=1)

    async def _read(self) -> None:
        async for records in self._log.read(LOG, self._shell.partition.next_offset):
            await self._shell.fold(records)

    async def _look(self) -> None:
        while True:
            await self._shell.look()
            ahead_s = self._shell.ahead_s()
            await asyncio.sleep(min(LOOK_S, ahead_s) if ahead_s > 0 else LOOK_S)

    async def _snapshots(self) -> None:
        while True:
            await asyncio.sleep(SNAPSHOT_S)
            await self._snapshot()

    async def _snapshot(self, **records: int) -> None:
        """Write what is due; a snapshot that fails costs only time, at the next start."""
        try:
            await self._shell.snapshot(**records)
        except LogError as error:
            self._on_trouble(f"no snapshot was written, the one before stands: {error}")


@asynccontextmanager
async def alone(folder: Path) -> AsyncIterator[None]:
    """Hold a folder for one correlator.

    Raises:
        LogError: another process runs one there.
    """
    with (folder / LOCK).open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            msg = f"{folder}: another correlator runs on this log"
            raise LogError(msg) from None
        yield

"""The region on a real broker: from a domain's digest appended to the verdict readable in its log.

Two domains doubt a link in turn, so that each second word is answered at once: the wait for others
(200 ms) is no part of it. The machine's two cores also run the broker and the region.
"""

import asyncio
import json
import time
from collections.abc import Callable

from bench.clock import Figures, milliseconds
from correlator.region import GATHER_US
from firstfault.log.kafka import KafkaLog
from firstfault.log.kafka_settings import quiet_libraries
from schemas.kafka import KafkaSettings
from schemas.topics import LOG
from tests.kafka.cluster import Cluster
from tests.kafka.regions import WAN, RegionProcess, newest, shared_map, spoken_for, tell
from tests.kafka.workers import running

ROUNDS = 60
ALONE = 20
"""Times that one domain alone is answered, after the wait for others."""
PATIENCE_S = 10.0


def region() -> Figures:
    """Return milliseconds from a digest to its verdict readable, in the log of another domain.

    That it works is told to who asked alone, so that one is read in its own.
    """
    quiet_libraries()
    with Cluster() as cluster:
        return asyncio.run(_measured(KafkaSettings(bootstrap=cluster.bootstrap, prefix="region.")))


class _Ear:
    """Hears the verdicts in the log of the first domain, and when each could be read."""

    def __init__(self, log: KafkaLog) -> None:
        self._log = log
        self._heard: list[tuple[str, float]] = []
        self._news = asyncio.Event()

    async def listen(self) -> None:
        """Hear for ever."""
        start = (await self._log.span(LOG)).end
        async for records in self._log.read(LOG, start):
            now_s = time.perf_counter()
            for record in records:
                inputs = json.loads(record.value)["inputs"]
                self._heard += [(one["state"], now_s) for one in inputs if "resource" in one]
            self._news.set()

    async def hears(self, is_it: Callable[[str], bool], after_s: float) -> float:
        """Return when a verdict could be read that was awaited since some time."""
        async with asyncio.timeout(PATIENCE_S):
            while True:
                for state, at_s in self._heard:
                    if at_s > after_s and is_it(state):
                        return at_s
                self._news.clear()
                await self._news.wait()


async def _measured(kafka: KafkaSettings) -> Figures:
    await shared_map(kafka, (WAN,))
    log = KafkaLog(kafka)
    ear = _Ear(log)
    together_s, over_s, alone_s = [], [], []
    async with running(RegionProcess(kafka, "bench", "--quiet")), spoken_for(log):
        await newest(kafka, WAN, "unknown")
        listening = asyncio.create_task(ear.listen())
        await asyncio.sleep(1.0)
        for _ in range(ROUNDS):
            await tell(log, "pod-0", WAN, "suspected")
            together_s.append(await _answered(log, ear, ("pod-1", "suspected"), "failed"))
            await tell(log, "pod-0", WAN, "working")
            over_s.append(await _answered(log, ear, ("pod-1", "working"), "working"))
        for _ in range(ALONE):
            alone_s.append(await _answered(log, ear, ("pod-0", "suspected"), "working"))
            await _answered(log, ear, ("pod-0", "working"), "working")
        listening.cancel()
    await log.close()
    return {
        "failed_ms": _quantiles(together_s),
        "working_again_ms": _quantiles(over_s),
        "one_alone_ms": {**_quantiles(alone_s), "of_it_wait_for_others": GATHER_US / 1e3},
    }


async def _answered(log: KafkaLog, ear: _Ear, word: tuple[str, str], state: str) -> float:
    """Return the seconds from a digest acknowledged to its answer readable."""
    before_s = time.perf_counter()
    await tell(log, word[0], WAN, word[1])
    # The answer may be readable before the producer of the digest hears that it is written.
    acknowledged_s = time.perf_counter()
    heard_s = await ear.hears(lambda said: said == state, before_s)
    return max(0.0, heard_s - acknowledged_s)


def _quantiles(taken_s: list[float]) -> Figures:
    shares = {f"p{share}": milliseconds(taken_s, share / 100) for share in (50, 95)}
    return {"answers": len(taken_s), **shares}

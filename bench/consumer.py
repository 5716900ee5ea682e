"""Actions through `ActionConsumer` on a local log: from appended to answered, one by one, and many.

Signatures are checked and made, the ledger and the log are on the disk at each step.
"""

import asyncio
import tempfile
import threading
import time
from pathlib import Path
from statistics import quantiles

from bench.clock import Figures
from firstfault import Action, ActionConsumer, Proof
from firstfault.log import Message
from firstfault.log.local import LocalLog, open_local
from schemas.topics import ACTIONS, LOG
from tests.consumer.stories import action, signed, site
from tests.signed import ACTUATOR

ONE_BY_ONE = 200
MANY = 500
VERBS = {"harmless": "notify", "accepted_first": "fence"}


def consumer() -> Figures:
    """Return milliseconds from an action appended to its result readable, and actions a second."""
    figures: Figures = {}
    for name, verb in VERBS.items():
        with tempfile.TemporaryDirectory() as folder:
            figures[name] = _measured(site(Path(folder)), verb)
    return figures


def _measured(folder: Path, verb: str) -> Figures:
    found = ActionConsumer.local(
        folder, name=ACTUATOR, keys=folder / "keys.yaml", private_key=folder / "actuator.pem"
    )

    @found.on(verb)
    def carry(_: Action) -> Proof:
        return {"observed_state": "OFF"}

    thread = threading.Thread(target=found.run)
    thread.start()
    try:
        return asyncio.run(_loaded(folder, verb))
    finally:
        found.stop()
        thread.join()


async def _loaded(folder: Path, verb: str) -> Figures:
    log = open_local(folder)
    answers = 2 if verb == "fence" else 1
    reader = asyncio.create_task(_stamped(log, answers * (ONE_BY_ONE + 1 + MANY)))
    appended: list[float] = []
    for number in range(ONE_BY_ONE + 1):  # The first finds the log just made.
        await _send(log, verb, number)
        appended.append(time.perf_counter())
        await asyncio.sleep(0.03)
    for number in range(ONE_BY_ONE + 1, ONE_BY_ONE + 1 + MANY):
        await _send(log, verb, number)
    began_s = time.perf_counter()
    read = (await reader)[answers - 1 :: answers]
    await log.close()
    took_ms = [
        (then - at) * 1e3 for at, then in zip(appended[1:], read[1 : ONE_BY_ONE + 1], strict=True)
    ]
    cut = quantiles(took_ms, n=100)
    per_s = MANY / (read[-1] - min(began_s, read[ONE_BY_ONE + 1]))
    return {
        "answered_ms": {"p50": round(cut[49], 1), "p99": round(cut[98], 1)},
        "actions_per_s": round(per_s),
    }


async def _send(log: LocalLog, verb: str, number: int) -> None:
    target = f"host:h{number}"
    given = action(f"k{number}", verb=verb, target=target, fence_token=number + 1)
    await log.append(ACTIONS, [Message(target, signed(given))])


async def _stamped(log: LocalLog, count: int) -> list[float]:
    """Return when each answer was read."""
    found: list[float] = []
    async for records in log.read(LOG, (await log.span(LOG)).first):
        found += [time.perf_counter()] * len(records)
        if len(found) >= count:
            return found
    return found

"""A worker's intake: one partition that is taken away holds up no other."""

import asyncio
from collections.abc import AsyncIterator, Callable
from types import SimpleNamespace
from typing import Any, cast

from faust.types import TP

from correlator.worker import QUEUE_MAX, Worker, _Reader
from schemas.topics import LOG

PATIENCE_S = 10.0


def event(partition: int, offset: int, on_ack: Callable[[], None] = lambda: None) -> Any:  # noqa: ANN401
    message = SimpleNamespace(partition=partition, offset=offset, tp=TP(LOG, partition))
    return SimpleNamespace(message=message, ack=on_ack)


def reader() -> _Reader:
    return _Reader(cast("Any", None), lambda: None, lambda _: None)


def worker(assigned: set[int], readers: dict[int, _Reader]) -> Worker:
    """Return one that reads nothing by itself."""
    made = Worker.__new__(Worker)
    consumer = SimpleNamespace(assignment=lambda: {TP(LOG, one) for one in assigned})
    made._app = cast("Any", SimpleNamespace(consumer=consumer))  # noqa: SLF001
    made._settings = cast("Any", SimpleNamespace(sites={}))  # noqa: SLF001
    made._readers = readers  # noqa: SLF001
    return made


def stream(events: list[Any]) -> Any:  # noqa: ANN401 - Faust's
    async def given() -> AsyncIterator[Any]:
        for one in events:
            yield one

    return SimpleNamespace(noack=lambda: SimpleNamespace(events=given))


def test_a_partition_that_is_taken_away_lets_go_who_waits_to_hand_it_a_record() -> None:
    async def story() -> None:
        kept, gone = reader(), reader()
        gone.task = asyncio.ensure_future(asyncio.sleep(PATIENCE_S))
        found = worker({0, 1}, {0: gone, 1: kept})
        acked: list[int] = []
        events = [event(0, number) for number in range(QUEUE_MAX + 2)]
        events += [event(0, 999, lambda: acked.append(999)), event(1, 0)]
        taking = asyncio.ensure_future(found._take(stream(events)))  # noqa: SLF001
        await asyncio.sleep(0.05)
        assert kept.waiting.empty()
        assigned = found._app.consumer.assignment  # noqa: SLF001
        found._app.consumer.assignment = lambda: assigned() - {TP(LOG, 0)}  # type: ignore[method-assign]  # noqa: SLF001
        await found._on_assigned(cast("Any", None), [TP(LOG, 1)])  # noqa: SLF001
        await asyncio.wait_for(taking, PATIENCE_S)
        assert kept.waiting.qsize() == 1
        assert acked == [999]
        assert gone.task.cancelled()

    asyncio.run(story())

"""The runner of collectors: sources that fail, a log out of reach, and what is sent then."""

import asyncio
import json
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from datetime import timedelta
from pathlib import Path

import pytest

from collectors.config import CollectorConfig, of_names
from collectors.pulse import PulseOptions, pulse
from collectors.runner import Collector
from collectors.source import LEVEL_FACTS_MAX, Context, Facts, Source, now
from collectors.spool import Spool
from correlator.frames import opened
from correlator.rules import RuleFaults
from firstfault.edges import Place, collector_of, read_edges
from firstfault.log import LogError
from firstfault.log.local import open_local
from schemas.inputs import Event, Input, Level, Pulse
from schemas.topics import LOG

PATIENCE_S = 20.0


class Log:
    """What a collector writes to; it can be out of reach, and hang."""

    def __init__(self) -> None:
        self.inputs: list[Input] = []
        self.frames: list[int] = []
        self.is_up, self.hangs = True, False
        self.news = asyncio.Event()

    async def write(self, inputs: Sequence[Input]) -> None:
        if self.hangs:
            await asyncio.Event().wait()
        if not self.is_up:
            msg = "no broker"
            raise LogError(msg)
        self.inputs += inputs
        self.frames.append(len(inputs))
        self.news.set()

    async def until(self, holds: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while not holds():
                self.news.clear()
                await self.news.wait()

    def ids(self) -> list[str]:
        return [str(one.event_id) for one in self.inputs if isinstance(one, Event)]


def event(name: str) -> Event:
    return Event(event_id=name, entity="nic:h1/e0", signal="nic.carrier.down", at=now())


def from_queue(queue: "asyncio.Queue[Input]") -> Source:
    async def source(_: Context) -> AsyncGenerator[Input, None]:
        while True:
            yield await queue.get()

    return source


def told(
    story: Callable[[Log, Collector], Awaitable[None]],
    sources: Callable[[], dict[str, Source]],
    spool: Path,
    **more: float,
) -> list[str]:
    """Run a collector and a story beside it; return the troubles it told of."""
    troubles: list[str] = []

    async def whole() -> None:
        log = Log()
        collector = Collector(
            "collector:h1",
            sources(),
            log.write,
            Spool(spool),
            on_trouble=troubles.append,
            **more,  # type: ignore[arg-type]
        )
        running = asyncio.create_task(collector.run())
        try:
            await story(log, collector)
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

    asyncio.run(whole())
    return troubles


def test_what_comes_together_leaves_in_one_frame_in_its_order(tmp_path: Path) -> None:
    names = [f"n{number}" for number in range(120)]

    async def burst(_: Context) -> AsyncGenerator[Input, None]:
        for name in names:
            yield event(name)
        await asyncio.Event().wait()

    async def story(log: Log, _: Collector) -> None:
        await log.until(lambda: len(log.inputs) == 120)
        assert log.ids() == names
        assert log.frames == [50, 50, 20]

    told(story, lambda: {"burst": burst}, tmp_path / "spool.db")


def test_a_source_that_fails_is_started_again_and_the_others_go_on(tmp_path: Path) -> None:
    starts: list[int] = []

    async def failing(_: Context) -> AsyncGenerator[Input, None]:
        starts.append(1)
        yield Level(source="collector:h1/failing")
        msg = "the card reader is on fire"
        raise ValueError(msg)

    async def ending(_: Context) -> AsyncGenerator[Input, None]:
        yield Level(source="collector:h1/ending")

    async def story(log: Log, collector: Collector) -> None:
        await log.until(lambda: len(starts) >= 3)
        await log.until(lambda: sum(isinstance(one, Pulse) for one in log.inputs) >= 2)
        assert collector.sources_ok() == []

    beat: Source = lambda context: pulse(context, PulseOptions())  # noqa: E731 - a name for it
    sources = {"failing": failing, "ending": ending, "pulse": beat}
    troubles = told(story, lambda: sources, tmp_path / "spool.db")
    assert any("failing: ValueError: the card reader is on fire" in one for one in troubles)
    assert any("ending: RuntimeError: it has ended by itself" in one for one in troubles)


def test_events_wait_on_the_disk_and_leave_behind_live_ones_each_once(tmp_path: Path) -> None:
    queue: asyncio.Queue[Input] = asyncio.Queue()

    async def story(log: Log, collector: Collector) -> None:
        await queue.put(event("before"))
        await log.until(lambda: log.ids() == ["before"])
        log.is_up = False
        for name in ("out1", "out2"):
            await queue.put(event(name))
        await queue.put(Level(source="collector:h1/it"))
        while collector.counts["spooled"] < 2:  # noqa: ASYNC110 - nothing is said of it
            await asyncio.sleep(0.01)
        log.is_up = True
        await asyncio.sleep(0.6)  # Until the log may be asked again.
        await queue.put(event("live"))
        await log.until(lambda: len(log.ids()) == 4)
        assert log.ids() == ["before", "live", "out1", "out2"]
        assert not any(isinstance(one, Level) for one in log.inputs)
        assert collector.spool.count == 0

    troubles = told(story, lambda: {"it": from_queue(queue)}, tmp_path / "spool.db")
    assert [one.split(";")[0].split(" (")[0] for one in troubles] == [
        "collector:h1: the log cannot be reached",
        "collector:h1: the log is back",
    ]


def test_a_log_that_hangs_is_out_of_reach(tmp_path: Path) -> None:
    queue: asyncio.Queue[Input] = asyncio.Queue()

    async def story(log: Log, collector: Collector) -> None:
        log.hangs = True
        await queue.put(event("lost?"))
        while not collector.counts["spooled"]:  # noqa: ASYNC110 - nothing is said of it
            await asyncio.sleep(0.01)
        log.hangs = False
        await asyncio.sleep(0.6)
        await queue.put(event("live"))
        await log.until(lambda: log.ids() == ["live", "lost?"])

    told(story, lambda: {"it": from_queue(queue)}, tmp_path / "spool.db", send_s_max=0.1)


def test_what_was_spooled_is_sent_after_a_restart_and_known_as_old(tmp_path: Path) -> None:
    """Its own time says so: more than 2 s before its frame was sent, it is history."""
    old = event("old").model_copy(update={"at": now() - timedelta(seconds=5)})
    Spool(tmp_path / "spool-collector-h1.db").add([old])

    async def story() -> None:
        log = open_local(tmp_path)
        place = Place(log, tmp_path, lambda _: None)
        collector = collector_of(of_names(["pulse"], "h1"), "pod-1", place)
        running = asyncio.create_task(collector.run())
        spooled = None
        async for records in log.read(LOG, (await log.span(LOG)).first):
            for record in records:
                for one in opened(record.offset, record.log_us, record.value).inputs:
                    if isinstance(one.input, Event):
                        spooled = one.spooled
            if spooled is not None:
                break
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await log.close()
        assert spooled is True

    asyncio.run(asyncio.wait_for(story(), PATIENCE_S))


def test_a_full_spool_drops_its_oldest_and_counts_them(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool.db", events_max=3)
    spool.add([event(f"n{number}") for number in range(5)])
    spool.add([event("n5")])
    again = Spool(tmp_path / "spool.db", events_max=3)
    assert [one.event.event_id for one in again.first()] == ["n3", "n4", "n5"]
    assert (again.count, spool.dropped) == (3, 3)
    again.forget(again.first()[1].number)
    assert [one.event.event_id for one in again.first()] == ["n5"]


def test_a_list_that_would_leave_something_out_is_not_told() -> None:
    facts = Facts(Context("collector:h1", "it"))
    for number in range(LEVEL_FACTS_MAX):
        facts.differ(f"part {number}", {(f"nic:h1/n{number}", "nic.carrier.down"): {}})
    assert len(facts.level()[0].facts) == LEVEL_FACTS_MAX
    facts.differ("one more", {("nic:h1/more", "nic.carrier.down"): {}})
    assert facts.level() == []


def test_pulses_count_up_and_go_on_after_a_restart(tmp_path: Path) -> None:
    def run() -> list[Pulse]:
        beats: list[Pulse] = []

        async def story(log: Log, _: Collector) -> None:
            await log.until(lambda: len(log.inputs) >= 2)
            beats.extend(one for one in log.inputs if isinstance(one, Pulse))

        beat: Source = lambda context: pulse(context, PulseOptions(host="host:h1"))  # noqa: E731
        told(story, lambda: {"pulse": beat}, tmp_path / "spool.db")
        return beats

    first, second = run(), run()
    numbers = [one.seq for one in [*first, *second]]
    assert numbers == sorted(set(numbers))
    assert len({one.boot_id for one in [*first, *second]}) == 1
    assert first[0].host == "host:h1"


def test_a_file_of_edges_with_a_fault_says_where(tmp_path: Path) -> None:
    file = tmp_path / "site.yaml"
    file.write_text(
        "collectors:\n"
        "  - observer: collector:h1\n"
        "    sources:\n"
        "      - {source: link, colour: red}\n"
        "      - {source: pulse}\n"
        "actuators:\n"
        "  - {name: actuator:a, verbs: [{verb: notify}]}\n"
    )
    with pytest.raises(RuleFaults) as faults:
        read_edges(file)
    text = str(faults.value)
    assert f"{file}:4:32: error [unknown-key]" in text
    assert "name a webhook, or a program as exec" in text


def test_a_source_stands_in_a_collector_once() -> None:
    document = {"observer": "collector:h1", "sources": [{"source": "pulse"}] * 2}
    with pytest.raises(ValueError, match="pulse stands there twice"):
        CollectorConfig.model_validate_json(json.dumps(document))

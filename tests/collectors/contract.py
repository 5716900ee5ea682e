"""What every source must do, whatever it watches: each has a class of these in its own tests."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractContextManager, aclosing
from typing import Protocol

from collectors.runner import Collector
from collectors.source import Context, Source
from collectors.spool import Spool
from schemas.inputs import FRAME_INPUTS_MAX, Event, Input, Level

LEVEL_S = 0.3
PATIENCE_S = 20.0
FLOOD = 10_000


class World(Protocol):
    """What a source watches, as a test turns it. It holds one thing that can be well or ill."""

    source: Source

    def turn(self, *, ill: bool) -> None:
        """Let the thing fall ill, or be well; the source can see it when this returns."""
        ...

    def turn_unseen(self, *, ill: bool) -> None:
        """Do the same in such a way that no word of the change reaches the source."""
        ...

    def flood(self, changes: int) -> None:
        """Change back and forth so often, faster than anybody reads; it is ill in the end."""
        ...


class Heard:
    """Listens to a source, and knows what it has said."""

    def __init__(self, source: Source) -> None:
        self.said: list[Input] = []
        self._source = source
        self._news = asyncio.Event()

    async def listen(self, context: Context | None = None) -> None:
        context = context or Context("collector:h1", "it", level_s=LEVEL_S)
        async with aclosing(self._source(context)) as inputs:
            async for one in inputs:
                self.said.append(one)
                self._news.set()

    async def until(self, holds: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while not holds():
                self._news.clear()
                await self._news.wait()

    def events(self) -> list[Event]:
        return [one for one in self.said if isinstance(one, Event)]

    def levels(self) -> list[Level]:
        return _levels(self.said)

    async def more_levels(self, count: int = 2) -> None:
        """Wait until what stood before surely is in a list."""
        known = len(self.levels())
        await self.until(lambda: len(self.levels()) >= known + count)


def _levels(inputs: Sequence[Input]) -> list[Level]:
    return [one for one in inputs if isinstance(one, Level)]


def _has(inputs: Sequence[Input], facts: int) -> bool:
    """Claim that there is a list of so many facts at least."""
    return any(len(one.facts) >= facts for one in _levels(inputs))


Story = Callable[[World, Heard], Awaitable[None]]


class SourceContract:
    """Tests of a source; a subclass says how its world is made."""

    def world(self) -> AbstractContextManager[World]:
        raise NotImplementedError

    def _told(self, story: Story) -> None:
        async def whole(world: World) -> None:
            heard = Heard(world.source)
            listening = asyncio.create_task(heard.listen())
            try:
                await heard.until(lambda: bool(heard.said))
                await story(world, heard)
            finally:
                listening.cancel()
                await asyncio.gather(listening, return_exceptions=True)

        with self.world() as world:
            asyncio.run(whole(world))

    def test_a_list_comes_first_and_then_again_and_again(self) -> None:
        async def story(_: World, heard: Heard) -> None:
            await heard.more_levels(3)
            assert isinstance(heard.said[0], Level)
            assert {one.source for one in heard.levels()} == {"collector:h1/it"}
            assert heard.events() == []

        self._told(story)

    def test_a_change_is_told_once_with_its_time_and_an_id_of_its_own(self) -> None:
        async def story(world: World, heard: Heard) -> None:
            world.turn(ill=True)
            await heard.more_levels()
            begun = heard.events()
            world.turn(ill=False)
            await heard.more_levels()
            ended = heard.events()[len(begun) :]
            assert begun
            assert {one.state for one in begun} == {"raised"}
            assert {one.state for one in ended} == {"cleared"}
            told = [(one.entity, one.signal) for one in begun]
            assert len(told) == len(set(told))
            assert set(told) == {(one.entity, one.signal) for one in ended}
            assert len({one.event_id for one in heard.events()}) == len(heard.events())
            assert all(one.at and one.source == "collector:h1/it" for one in heard.events())

        self._told(story)

    def test_what_stands_is_in_each_list_until_it_ends(self) -> None:
        async def story(world: World, heard: Heard) -> None:
            world.turn(ill=True)
            await heard.more_levels()
            facts = {(one.entity, one.signal) for one in heard.levels()[-1].facts}
            assert facts == {(one.entity, one.signal) for one in heard.events()}
            assert all(one.since for one in heard.levels()[-1].facts)
            world.turn(ill=False)
            await heard.more_levels()
            assert heard.levels()[-1].facts == []

        self._told(story)

    def test_who_starts_again_lists_what_stands(self) -> None:
        async def story(world: World, heard: Heard) -> None:
            world.turn(ill=True)
            await heard.more_levels()
            again = Heard(world.source)
            listening = asyncio.create_task(again.listen())
            try:
                await again.until(lambda: bool(again.said))
            finally:
                listening.cancel()
                await asyncio.gather(listening, return_exceptions=True)
            first = again.said[0]
            assert isinstance(first, Level)
            known = {(one.entity, one.signal) for one in heard.levels()[-1].facts}
            assert {(one.entity, one.signal) for one in first.facts} == known

        self._told(story)

    def test_an_edge_that_was_lost_is_told_with_the_next_list(self) -> None:
        async def story(world: World, heard: Heard) -> None:
            world.turn_unseen(ill=True)
            await heard.until(lambda: any(one.facts for one in heard.levels()))
            assert {one.state for one in heard.events()[-1:]} <= {"raised"}

        self._told(story)

    def test_a_flood_costs_no_memory_and_ends_in_what_is_true(self) -> None:
        """The log is slow, so the source has to wait: the kernel or its like must lose some."""

        async def whole(world: World) -> None:
            frames: list[list[Input]] = []
            news = asyncio.Event()

            async def write(inputs: Sequence[Input]) -> None:
                await asyncio.sleep(0.005)
                frames.append(list(inputs))
                news.set()

            async def until_one_says(facts: int) -> None:
                while not frames or not _has(frames[-1], facts):
                    news.clear()
                    await news.wait()

            with Spool.temporary() as spool:
                collector = Collector(
                    "collector:h1", {"it": world.source}, write, spool, queue_max=100
                )
                running = asyncio.create_task(collector.run())
                try:
                    async with asyncio.timeout(PATIENCE_S):
                        await until_one_says(0)
                        world.flood(FLOOD)
                        await until_one_says(1)
                finally:
                    running.cancel()
                    await asyncio.gather(running, return_exceptions=True)
            assert max(map(len, frames)) <= FRAME_INPUTS_MAX
            assert collector.queued_max <= 100
            assert collector.counts["dropped"] == 0

        with self.world() as world:
            asyncio.run(whole(world))

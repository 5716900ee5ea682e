"""The source `link` on the real kernel: its contract, and what only the kernel can show.

Each test makes network namespaces of its own, and needs root for that; `make root-test` runs them.
"""

import asyncio
import os
import subprocess
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from itertools import count
from pathlib import Path

import pytest

from collectors.link import LinkOptions, link
from collectors.source import Context, Source
from firstfault import live_demo
from schemas.inputs import Event, Level
from tests.collectors.contract import Heard, SourceContract, World

NUMBERS = count()


def ip(*words: str | bytes) -> None:
    subprocess.run(["ip", *words], check=True, timeout=60)  # noqa: S603, S607 - our own words


class Namespace:
    """A network namespace with one card; its far end is what a test turns."""

    def __init__(self, name: str) -> None:
        self.name = name
        options = LinkOptions(netns=name, interfaces=["e*"])
        self.source: Source = partial(link, options=options)

    def turn(self, *, ill: bool) -> None:
        ip("-n", self.name, "link", "set", "p0", "down" if ill else "up")

    def turn_unseen(self, *, ill: bool) -> None:
        """So many changes that the socket cannot hold them; nobody reads while `ip` makes them."""
        self.flood(4_000)
        self.turn(ill=ill)

    def flood(self, changes: int) -> None:
        # Of its own end: the kernel tells of each at once, and rates only those of the far end.
        lines = "link set e0 down\nlink set e0 up\n" * (changes // 2)
        batch = ["ip", "-n", self.name, "-batch", "-"]
        subprocess.run(  # noqa: S603 - our own words
            batch, input=lines.encode(), check=True, timeout=120
        )
        self.turn(ill=True)


@contextmanager
def namespace() -> Iterator[Namespace]:
    name = f"fftest-{os.getpid()}-{next(NUMBERS)}"
    ip("netns", "add", name)
    try:
        ip("-n", name, "link", "add", "e0", "type", "veth", "peer", "name", "p0")
        for device in ("e0", "p0"):
            ip("-n", name, "link", "set", device, "up")
        yield Namespace(name)
    finally:
        ip("netns", "del", name)


class TestContract(SourceContract):
    def world(self) -> AbstractContextManager[World]:
        return namespace()


def heard(options: LinkOptions, seconds: float = 0.3) -> list[Event | Level]:
    """Return what is said within a time."""

    async def whole() -> list[Event | Level]:
        context = Context("collector:h1", "link", level_s=0.1)
        listening = Heard(partial(link, options=options))
        task = asyncio.create_task(listening.listen(context))
        await asyncio.sleep(seconds)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return [one for one in listening.said if isinstance(one, Event | Level)]

    return asyncio.run(whole())


def test_a_name_that_is_not_text_does_not_stop_the_others() -> None:
    with namespace() as one:
        ip("-n", one.name, "link", "add", b"e\xff", "type", "veth", "peer", "name", "q0")
        one.turn(ill=True)
        said = heard(LinkOptions(netns=one.name, interfaces=["e*"]))
    (level, *_) = [one for one in said if isinstance(one, Level)]
    assert "nic:h1/e0" in {fact.entity for fact in level.facts}


def test_many_devices_are_listed_whole() -> None:
    with namespace() as one:
        lines = "".join(f"link add d{n} type veth peer name x{n}\n" for n in range(300))
        subprocess.run(  # noqa: S603 - our own words
            ["ip", "-n", one.name, "-batch", "-"],  # noqa: S607
            input=lines.encode(),
            check=True,
            timeout=60,
        )
        said = heard(LinkOptions(netns=one.name, interfaces=["d*"]), 1.0)
    (level, *_) = [one for one in said if isinstance(one, Level)]
    assert len(level.facts) == 300


def test_a_namespace_that_is_not_there_is_said() -> None:
    async def first() -> None:
        async for _ in link(Context("collector:h1", "link"), LinkOptions(netns="no-such-one")):
            return

    with pytest.raises(FileNotFoundError, match="no-such-one"):
        asyncio.run(first())


def test_a_process_stays_where_it_is_when_a_source_looks_into_a_namespace() -> None:
    before = Path("/proc/self/ns/net").readlink()
    with namespace() as one:
        heard(LinkOptions(netns=one.name))
    assert Path("/proc/self/ns/net").readlink() == before


def test_what_a_killed_demo_has_left_is_taken_away() -> None:
    ended = subprocess.Popen(["true"])  # noqa: S607 - any program
    ended.wait()
    left = f"{live_demo.PREFIX}-{ended.pid}-host"
    ip("netns", "add", left)
    live_demo.sweep()
    assert not (live_demo.NAMESPACES / left).exists()

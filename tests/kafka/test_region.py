"""The region on a real broker: what two domains say of what they share, and what they are told."""

import asyncio
import json
import signal
from pathlib import Path

import pytest

from correlator.engine import Engine
from correlator.keyfile import read_keys
from correlator.live import Fold
from correlator.region import SURE
from correlator.signing import Verifier
from correlator.state import EngineState
from firstfault.cli.terminal import EXIT_BAD_INPUT
from firstfault.log import Message
from firstfault.log.kafka import KafkaLog
from firstfault.log.kafka_topics import topics
from firstfault.playback import open_site
from schemas.kafka import KafkaSettings
from schemas.keys import KeySet
from schemas.outputs import DeadLetter
from schemas.topics import ACTIONS, LOG, REGION
from tests.cli.conftest import invoke
from tests.kafka.regions import (
    FEED,
    PODS,
    WAN,
    RegionProcess,
    doubts,
    incidents,
    newest,
    opened,
    report,
    shared_map,
    spoken_for,
    tell,
    users_of_wan,
)
from tests.kafka.workers import (
    RULES,
    TOPOLOGY,
    Site,
    WorkerProcess,
    kept,
    running,
    speaking,
    stopped,
)


def keys(folder: Path) -> tuple[KeySet, tuple[str, ...]]:
    """Return a key set with a region in it, and the options of that region."""
    invoke("keys new correlator:w1 --may owner_claim,action --out {}", folder)
    invoke("keys new region:north --may verdict --out {}", folder)
    return read_keys(folder / "keys.yaml"), ("--signing-key", str(folder / "region-north.pem"))


async def letters(
    kafka: KafkaSettings, partition: int, pod: str, known: KeySet
) -> list[DeadLetter]:
    """Return what a domain that has keys refuses of a partition."""
    rules, graph, _ = open_site(RULES, TOPOLOGY)
    engine = Engine(EngineState(pod, graph, rules.hash, ticks="recorded"), rules)
    fold = Fold(engine, 0, Verifier.from_start(pod, "0", [known]))
    records = await kept(kafka, LOG, partition)
    told = [one.output for record in records for one in fold.take(record)]
    return [one for one in told if isinstance(one, DeadLetter)]


def test_domains_are_told_what_has_failed_signed_for_each(
    kafka: KafkaSettings, tmp_path: Path
) -> None:
    known, options = keys(tmp_path)

    async def story() -> None:
        await shared_map(kafka)
        log = KafkaLog(kafka)
        region = RegionProcess(kafka, "r1", "--output", "json", *options)
        async with running(region), spoken_for(log):
            found = await newest(kafka, WAN, "unknown")
            assert all(told == [(WAN, "unknown"), (FEED, "unknown")] for told in found.values())

            await log.append(REGION, [Message("garbage", b"\xff"), Message(WAN, b"{}")])
            await tell(log, "pod-0", WAN, "suspected", confidence=0.6)
            await newest(kafka, WAN, "unknown", count=2)
            await tell(log, "pod-1", WAN, "suspected", confidence=0.6)
            await newest(kafka, WAN, "failed")
            await tell(log, "pod-1", FEED, "working")
            await tell(log, "pod-0", FEED, "suspected", confidence=0.6)
            found = await newest(kafka, FEED, "working", pods=("pod-0",))
            assert (FEED, "working") not in found["pod-1"]  # It did not ask.

            region.signal(signal.SIGTERM)
            assert await region.ended() == 0
            lines = region.lines()
            said = [one["state"] for one in lines if one["resource"] == WAN]
            assert said == ["unknown", "unknown", "failed"]
            assert lines[-1]["doubted_by"] == ["pod-0"]
        await log.close()
        for partition, pod in enumerate(PODS):
            assert await letters(kafka, partition, pod, known) == []
        # What is signed for one domain counts in no other.
        refused = await letters(kafka, 0, "pod-1", known)
        assert {one.code for one in refused} == {"signature_bad"}

    asyncio.run(story())


def test_a_region_that_is_killed_says_after_it_what_still_holds(kafka: KafkaSettings) -> None:
    async def story() -> None:
        await shared_map(kafka, (WAN,))
        log = KafkaLog(kafka)
        first = RegionProcess(kafka, "r1")
        async with spoken_for(log):
            async with running(first):
                await newest(kafka, WAN, "unknown")
                await tell(log, "pod-0", WAN, "suspected")
                await tell(log, "pod-1", WAN, "suspected")
                before = await newest(kafka, WAN, "failed")
                first.signal(signal.SIGKILL)
                await first.ended()
                await tell(log, "pod-0", WAN, "working")
            again = RegionProcess(kafka, "r1")
            async with running(again):
                count = max(map(len, before.values())) + 1
                await newest(kafka, WAN, "failed", count)
                await tell(log, "pod-1", WAN, "working")
                found = await newest(kafka, WAN, "working")
        await log.close()
        for told in found.values():
            said = [state for _, state in told]
            assert said[0] == "unknown"
            assert said[-1] == "working"
            assert set(said[said.index("failed") : -1]) == {"failed"}

    asyncio.run(story())


def test_another_that_stands_by_goes_on(kafka: KafkaSettings) -> None:
    async def story() -> None:
        await shared_map(kafka, (WAN,))
        log = KafkaLog(kafka)
        first, second = RegionProcess(kafka, "r1"), RegionProcess(kafka, "r2")
        async with running(first, second), spoken_for(log):
            await newest(kafka, WAN, "unknown")
            await tell(log, "pod-0", WAN, "suspected")
            await newest(kafka, WAN, "unknown", count=2)
            first.signal(signal.SIGTERM)
            assert await first.ended() == 0
            await tell(log, "pod-1", WAN, "suspected")
            await newest(kafka, WAN, "failed")
        await log.close()

    asyncio.run(story())


def test_a_domain_with_keys_refuses_what_is_not_signed(
    kafka: KafkaSettings, tmp_path: Path
) -> None:
    known, _ = keys(tmp_path)

    async def story() -> None:
        await shared_map(kafka, (WAN,))
        async with running(RegionProcess(kafka, "r1")):
            await newest(kafka, WAN, "unknown")
        for partition, pod in enumerate(PODS):
            told = await letters(kafka, partition, pod, known)
            assert [one.code for one in told] == ["signature_missing"]

    asyncio.run(story())


@pytest.mark.parametrize("shared", [None, ()])
def test_without_anything_shared_it_says_what_to_do(
    kafka: KafkaSettings, shared: tuple[str, ...] | None
) -> None:
    async def story() -> None:
        if shared is None:
            with topics(kafka) as found:
                found.create(found.wanted(1))
        else:
            await shared_map(kafka, shared)
        region = RegionProcess(kafka, "r1")
        assert await region.ended() == EXIT_BAD_INPUT
        words = region.close()
        assert "under `shared:`" in words
        assert f"firstfault topics create --kafka {kafka.bootstrap} --domains" in words

    asyncio.run(story())


def test_a_wan_link_that_two_domains_lose_is_the_one_cause_in_both(
    kafka: KafkaSettings, tmp_path: Path
) -> None:
    async def story() -> None:
        made = await shared_map(kafka, (WAN,), users_of_wan(tmp_path))
        site = Site(kafka, {one.name: one.partition for one in made.domains})
        log = KafkaLog(kafka)
        worker, region = WorkerProcess(site, "w1"), RegionProcess(kafka, "r1")
        async with running(worker, region):
            await speaking(site)
            await newest(kafka, WAN, "unknown")
            await report(log, "app.health.bad", "raised")
            await newest(kafka, WAN, "failed")
            for partition in site.domains.values():
                (found,) = await opened(kafka, partition)
                assert found["causes"][0]["entity"] == WAN
            await report(log, "app.health.bad", "cleared")
            await newest(kafka, WAN, "working")
            await stopped([worker, region])
        for partition in site.domains.values():
            assert len(await incidents(kafka, partition)) == 1
            actions = [json.loads(one.value) for one in await kept(kafka, ACTIONS, partition)]
            assert {one["verb"] for one in actions} <= {"notify", "page"}
        assert all(sure < SURE for _, sure in (await doubts(kafka))[:2])
        await log.close()

    asyncio.run(story())

"""The log on a real broker: what every log must do, and what only a broker can do to it."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete
from aiokafka.errors import KafkaError

from correlator.frames import opened
from firstfault.log import LogError, OffsetGoneError, Record
from firstfault.log.kafka import KafkaLog
from firstfault.log.kafka_settings import client_options
from firstfault.log.kafka_topics import topics
from schemas.kafka import KafkaSettings
from schemas.topics import LOG as TOPIC
from tests.kafka.cluster import Cluster
from tests.log import contract
from tests.log.contract import CONTRACT, Story, first, messages, values


@pytest.fixture
def made(kafka: KafkaSettings) -> KafkaSettings:
    """Settings of topics that are there, of one partition each."""
    with topics(kafka) as found:
        found.create(found.wanted(1))
    return kafka


@pytest.mark.parametrize("story", CONTRACT, ids=lambda story: story.__name__)
def test_the_log_on_kafka_does_what_every_log_must(story: Story, made: KafkaSettings) -> None:
    async def whole() -> None:
        await contract.told(KafkaLog(made), story)

    asyncio.run(whole())


def of(cluster: Cluster) -> KafkaSettings:
    """Return the settings of brokers of the test's own, with topics of one partition."""
    found = KafkaSettings(bootstrap=cluster.bootstrap)
    with topics(found) as there:
        there.create(there.wanted(1))
    return found


class Numbers:
    """Appends numbered messages without a pause, and remembers which were acknowledged."""

    def __init__(self, log: KafkaLog) -> None:
        self._log = log
        self._done = False
        self._more = asyncio.Event()
        self.acknowledged: list[int] = []
        self.offsets: list[int] = []

    async def append(self) -> None:
        number = 0
        while not self._done:
            offset = await self._log.append(TOPIC, messages(str(number), f"{number} too"))
            self.acknowledged.append(number)
            self.offsets.append(offset)
            self._more.set()
            number += 1

    async def more(self, count: int) -> None:
        """Return once so many more have been acknowledged."""
        goal = len(self.acknowledged) + count
        while len(self.acknowledged) < goal:
            self._more.clear()
            await self._more.wait()

    def stop(self) -> None:
        self._done = True


async def through(
    settings: KafkaSettings, fault: Callable[[], Awaitable[None]]
) -> tuple[Numbers, list[Record]]:
    """Append and read numbers while a fault happens; return what was acknowledged and read."""
    log = KafkaLog(settings)
    numbers = Numbers(log)
    all_read = asyncio.Event()
    read: list[Record] = []

    async def reader() -> None:
        async for records in log.read(TOPIC, 0):
            read.extend(records)
            all_read.set()

    async with asyncio.TaskGroup() as tasks:  # An error of one ends the test.
        reading = tasks.create_task(reader())
        appending = tasks.create_task(numbers.append())
        await numbers.more(50)
        await fault()
        await numbers.more(200)
        numbers.stop()
        await appending
        while len(read) < 2 * len(numbers.acknowledged):
            all_read.clear()
            await all_read.wait()
        reading.cancel()
    await log.close()
    return numbers, read


def check(numbers: Numbers, read: list[Record]) -> None:
    """Every acknowledged message is there once, in order, where it was said to be."""
    wanted = [text for number in numbers.acknowledged for text in (f"{number}", f"{number} too")]
    assert values(read) == wanted
    assert [one.offset for one in read] == list(range(len(wanted)))
    assert numbers.offsets == list(range(0, len(wanted), 2))


def test_a_broker_that_is_killed_and_comes_back_loses_and_doubles_nothing(cluster: Cluster) -> None:
    async def fault() -> None:
        cluster.kill(1)
        await asyncio.sleep(0.5)
        cluster.start(1)
        await asyncio.to_thread(cluster.wait)

    check(*asyncio.run(through(of(cluster), fault)))


def test_a_broker_that_hangs_is_waited_for_longer_than_a_request_takes(cluster: Cluster) -> None:
    async def fault() -> None:
        cluster.pause(1)
        await asyncio.sleep(25)  # Two requests time out; so does the refresh of metadata.
        cluster.resume(1)

    check(*asyncio.run(through(of(cluster), fault)))


def test_a_broker_that_is_away_for_18_s_is_waited_for(cluster: Cluster) -> None:
    async def fault() -> None:
        cluster.kill(1)
        await asyncio.sleep(18)  # Longer than a reader asks whether it should have heard something.
        cluster.start(1)
        await asyncio.to_thread(cluster.wait)

    check(*asyncio.run(through(of(cluster), fault)))


def test_one_of_three_brokers_is_killed_and_nobody_notices(cluster_of_three: Cluster) -> None:
    async def fault() -> None:
        cluster_of_three.kill(2)
        await asyncio.sleep(5)
        cluster_of_three.start(2)
        await asyncio.to_thread(cluster_of_three.wait)

    check(*asyncio.run(through(of(cluster_of_three), fault)))


def test_what_is_not_acknowledged_in_time_is_an_error_and_does_not_come_later(
    cluster: Cluster,
) -> None:
    settings = of(cluster)

    async def story() -> None:
        log = KafkaLog(settings, append_s=2.0)
        await log.append(TOPIC, messages("before"))
        cluster.kill(1)
        for value in ("lost", "lost too"):
            with pytest.raises(LogError, match="no answer in time"):
                await log.append(TOPIC, messages(value))
        cluster.start(1)
        await asyncio.to_thread(cluster.wait)
        offset = await log.append(TOPIC, messages("after"))
        assert values(await first(log, offset + 1, 0)) == ["before", "after"]
        await log.close()

    asyncio.run(story())


def test_a_log_is_closed_in_bounded_time_while_its_broker_is_away(cluster: Cluster) -> None:
    settings = of(cluster)

    async def story() -> None:
        log = KafkaLog(settings)
        await log.append(TOPIC, messages("before"))
        cluster.kill(1)
        appending = asyncio.create_task(log.append(TOPIC, messages("never")))
        await asyncio.sleep(0.5)
        await asyncio.wait_for(log.close(), 30)
        with pytest.raises(LogError):
            await asyncio.wait_for(appending, 30)

    asyncio.run(story())


def test_what_was_deleted_is_an_error_also_for_who_reads_on_after_an_outage(
    made: KafkaSettings,
) -> None:
    async def story() -> None:
        log = KafkaLog(made)
        await log.append(TOPIC, messages(*map(str, range(10))))
        admin = AIOKafkaAdminClient(**client_options(made))
        await admin.start()
        place = TopicPartition(made.named(TOPIC), 0)
        await admin.delete_records({place: RecordsToDelete(before_offset=6)})
        await admin.close()
        assert (await log.span(TOPIC)).first == 6
        with pytest.raises(OffsetGoneError, match="offset 5 is not kept, only 6 to 9"):
            await first(log, 1, 5)
        assert values(await first(log, 4, 6)) == ["6", "7", "8", "9"]
        await log.close()

    asyncio.run(story())


def test_a_cluster_that_is_not_there_is_an_error_in_bounded_time() -> None:
    async def story() -> None:
        log = KafkaLog(KafkaSettings(bootstrap="127.0.0.1:1"), append_s=1.0)
        with pytest.raises(LogError, match="no answer in time"):
            await log.append(TOPIC, messages("a"))
        await log.close()

    asyncio.run(story())


async def foreign(settings: KafkaSettings, *values: bytes | None) -> list[str]:
    """Send what a producer of somebody else's might; return what became of each."""
    producer = AIOKafkaProducer(**client_options(settings), max_request_size=20_000_000)
    await producer.start()
    told = []
    for value in values:
        try:
            sent = await producer.send_and_wait(settings.named(TOPIC), value, b"\xff", partition=0)
            told.append(str(sent.offset))
        except KafkaError as error:
            told.append(type(error).__name__)
    await producer.stop()
    return told


def test_what_a_foreign_producer_sends_stops_nothing(made: KafkaSettings) -> None:
    unknown = b'{"v":9,"frame_id":"a/b/1","domain":"pod-1","inputs":[{"type":"tick"}]}'
    good = b'{"v":1,"frame_id":"a/b/2","domain":"pod-1","inputs":[{"type":"tick"}]}'
    huge, long = b"x" * 10_000_000, b"x" * 1_500_000
    values = (b"garbage \x00\xff", None, huge, long, unknown, good)

    async def story() -> list[Record]:
        log = KafkaLog(made)
        told = await foreign(made, *values)
        assert told == ["0", "1", "MessageSizeTooLargeError", "2", "3", "4"]
        found = await first(log, 5, 0)
        await log.close()
        return found

    found = asyncio.run(story())
    fates = [opened(one.offset, one.log_us, one.value) for one in found]
    assert [one.unread[0].code if one.unread else "" for one in fates] == [
        "not_json",
        "not_json",
        "too_long",
        "schema",
        "",
    ]
    assert fates[3].unread[0].reason == "v: Input should be 1"

"""Faust as the workers use it: an app that hands over what it reads, and commits what is told.

Nothing happens on import: `make_app` makes the app. Settings and their reasons: the notes on Kafka
of the design. What is overridden here has no setting, and was measured to cost (faust-streaming
0.15, aiokafka 0.14).
"""

import asyncio
from collections.abc import Iterable
from typing import Any

import faust
from aiokafka import AIOKafkaConsumer
from faust.transport.drivers import TRANSPORTS
from faust.transport.drivers.aiokafka import AIOKafkaConsumerThread, Consumer, Transport
from faust.types import EventT
from mode import ServiceT
from mode.services import WaitResults

from firstfault.log import Record
from firstfault.log.kafka_settings import password, ssl_context
from schemas.kafka import KafkaSettings

FETCH_WAIT_MS = 20
"""How long a broker keeps a request it has nothing for, where that asks for some partitions only:
with Faust's own 1500 one that was just resumed waited for that of the others: p99 1.2 s."""
WHOLE_WAIT_MS = 100
"""And one that asks for all partitions: whatever comes is answered at once. Asking each 20 ms took
4 % of a core; a partition that is assigned meanwhile waits for so long."""
PAUSED_S = 0.01
"""A partition that is paused, since its queue was full, is asked for again so soon."""
SESSION_S, HEARTBEAT_S = 6.0, 1.5
"""A worker silent for so long loses its partitions: the least a broker allows by default."""
COMMIT_S = 2.0
"""Committed offsets decide nothing: what was read since is read again at a start, and dropped."""
REQUEST_S = 10.0
LEAVE_S = 1.5
"""At a clean stop it may take so long to commit and to leave the group."""
SCHEME = "firstfault"


class _Thread(AIOKafkaConsumerThread):
    def _create_worker_consumer(self, transport: Transport) -> AIOKafkaConsumer:
        consumer = super()._create_worker_consumer(transport)
        consumer._fetch_max_wait_ms = FETCH_WAIT_MS  # noqa: SLF001 - Faust has no setting for it
        return consumer

    async def on_start(self) -> None:
        await super().on_start()
        _let_wait(self._ensure_consumer()._fetcher)  # noqa: SLF001 - nor for this


def _let_wait(fetcher: Any) -> None:  # noqa: ANN401 - aiokafka's
    """Let a fetcher ask for longer where nothing is read and not taken, and nothing is paused."""
    known = fetcher._get_actions_per_node  # noqa: SLF001

    def actions(assignment: Any) -> Any:  # noqa: ANN401
        states = map(assignment.state_value, assignment.tps)
        is_whole = not fetcher._records and not any(one.paused for one in states)  # noqa: SLF001
        fetcher._fetch_max_wait_ms = WHOLE_WAIT_MS if is_whole else FETCH_WAIT_MS  # noqa: SLF001
        return known(assignment)

    fetcher._get_actions_per_node = actions  # noqa: SLF001


class _Consumer(Consumer):
    # The names and types of these are Faust's.

    async def wait_first(self, *coros: Any, timeout: Any = None) -> WaitResults:  # noqa: ANN401, ASYNC109
        """Hand a message over without the four tasks that Faust makes for each.

        They end the wait for a flow that is suspended; a hand-over waits for nothing else, since
        its queue takes whatever was fetched.
        """
        if len(coros) != 2 or not self.app.flow_control.is_active():  # noqa: PLR2004 - as it calls it
            return await super().wait_first(*coros, timeout=timeout)
        handed_over, suspended = coros
        suspended.close()
        return WaitResults([handed_over], [await handed_over], stopped=False)

    async def _wait_next_records(self, timeout: float) -> Any:  # noqa: ANN401, ASYNC109
        """Wait for what comes; Faust looks away for a second where all partitions are paused."""
        while self.flow_active and not self.should_stop and not self._get_active_partitions():  # noqa: ASYNC110
            await asyncio.sleep(PAUSED_S)
        return await super()._wait_next_records(timeout)

    async def _getmany(self, active_partitions: Any, timeout: float) -> Any:  # noqa: ANN401, ASYNC109
        """Ask for what came; not for long where one is paused, for it is not asked for."""
        is_whole = len(active_partitions or ()) == len(self.assignment())
        return await super()._getmany(active_partitions, timeout if is_whole else PAUSED_S)

    def _new_consumer_thread(self) -> AIOKafkaConsumerThread:
        return _Thread(self, loop=self.loop, beacon=self.beacon)


class PromptTransport(Transport):
    """Faust's transport, but a broker answers at once."""

    Consumer = _Consumer


class _App(faust.App):
    def on_init_dependencies(self) -> Iterable[ServiceT]:
        services = super().on_init_dependencies()
        # It takes down each message four times, for a page that is not served.
        self.sensors.remove(self.monitor)
        return services


def make_app(kafka: KafkaSettings, owner: str, group: str, instance: str | None) -> faust.App:
    """Return an app that does nothing yet: no tables, no web server, no topics of its own.

    owner: its name, for the broker's logs; instance: of a static member, whose restart within the
    session moves no partition.
    """
    TRANSPORTS.aliases[SCHEME] = f"{__name__}:{PromptTransport.__name__}"
    return _App(
        kafka.named(group),
        broker=";".join(f"{SCHEME}://{one}" for one in kafka.bootstrap.split(",")),
        broker_client_id=f"{kafka.client_id}-{owner}",
        broker_credentials=_credentials(kafka),
        broker_session_timeout=SESSION_S,
        broker_heartbeat_interval=HEARTBEAT_S,
        broker_request_timeout=REQUEST_S,
        broker_commit_interval=COMMIT_S,
        consumer_group_instance_id=instance,
        processing_guarantee="at_least_once",
        stream_buffer_maxsize=1024,
        # What is in hand is acknowledged once it is published, which a worker in doubt does only
        # when it has read on: to wait for that before a partition may go would be for ever.
        stream_wait_empty=False,
        cython_optimizations=True,
        stream_publish_on_commit=False,
        producer_acks=-1,
        producer_request_timeout=REQUEST_S,
        store="memory://",
        table_standby_replicas=0,
        topic_allow_declare=False,
        topic_disable_leader=True,
        web_enabled=False,
        worker_redirect_stdouts=False,
        key_serializer="raw",
        value_serializer="raw",
    )


def _credentials(kafka: KafkaSettings) -> faust.auth.Credentials | None:
    context = ssl_context(kafka)
    if kafka.sasl is not None:
        return faust.SASLCredentials(
            username=kafka.sasl.user,
            password=password(kafka),
            mechanism=kafka.sasl.mechanism,
            ssl_context=context,
        )
    return None if context is None else faust.SSLCredentials(context)


def record_of(event: EventT[bytes]) -> Record:
    """Return what Faust has read as a record of the log."""
    message = event.message
    log_us = round(message.timestamp * 1e3) * 1_000  # Faust has the broker's milliseconds in s.
    # Whoever may write may send any bytes as a key, or none.
    key = (message.key or b"").decode(errors="replace")
    return Record(message.offset, log_us, key, message.value or b"")


class Stoppable:
    """Runs until it is told to stop, or cannot go on."""

    def __init__(self) -> None:
        self._stopping = asyncio.Event()
        self._error: BaseException | None = None

    def stop(self) -> None:
        """Ask for a clean stop."""
        self._stopping.set()

    async def _started(self, app: faust.App) -> bool:
        """Start an app; False where it was told to stop before: who joins waits for the others."""
        starting = self._watched(app.start())
        stopping = asyncio.ensure_future(self._stopping.wait())
        await asyncio.wait((starting, stopping), return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        is_started = starting.done()
        starting.cancel()
        return is_started

    async def _left(self, app: faust.App) -> None:
        """Let an app commit and leave its group, for so long as that may take."""
        # Not `wait_for`: Faust's wait for its last acknowledgements hears no cancellation.
        leaving = asyncio.ensure_future(app.stop())
        await asyncio.wait((leaving,), timeout=LEAVE_S)
        leaving.cancel()

    def _watched(self, work: Any) -> "asyncio.Task[None]":  # noqa: ANN401 - a coroutine
        """Run something that must not fail: where it does, the whole ends."""

        def ended(task: "asyncio.Task[None]") -> None:
            if not task.cancelled() and task.exception() is not None:
                self._error = self._error or task.exception()
                self._stopping.set()

        task: asyncio.Task[None] = asyncio.ensure_future(work)
        task.add_done_callback(ended)
        return task

"""A thread that ends the process hard when its event loop no longer does its work.

Faust was seen to stand still for ever after an outage of its broker, its loop alive and a liveness
probe content; and a loop that hangs hears no signal. So this has a thread and a client of its own,
and it waits for the signals itself: the process must have blocked them before it starts a thread.
State is safe in the log; a supervisor starts us again.
"""

import asyncio
import os
import signal
import threading
import time
from collections.abc import Callable, Coroutine, Mapping
from contextlib import suppress
from typing import Any, TypeVar

from kafka import KafkaConsumer, TopicPartition
from kafka.errors import KafkaError

from firstfault.log.kafka_settings import client_options
from schemas.kafka import KafkaSettings

SIGNALS = {signal.SIGTERM, signal.SIGINT}
STALL_S = 15.0
"""So long a partition may lag without a record being folded: loading a snapshot of 10⁵ entities
takes two seconds, an append that waits for a new leader six."""
STOP_S = 5.0
"""How long a clean stop may take."""
ASK_S = 1.0
PAUSE_S = 5.0
"""A look that comes so late says that the process was stopped, or that the client has waited."""
HUNG = 70
"""Exit code of a process that was ended (EX_SOFTWARE of sysexits.h)."""
T = TypeVar("T")


class Watchdog:
    """Ends the process when nothing moves though there is something to read.

    progress: partition → offset of the record that is read next; may be asked by any thread.
    on_stop: told, in the event loop's thread or not, that a signal asks for a clean stop.
    """

    def __init__(
        self,
        kafka: KafkaSettings,
        topic: str,
        progress: Callable[[], Mapping[int, int]],
        on_stop: Callable[[], object],
    ) -> None:
        self._kafka, self._topic = kafka, kafka.named(topic)
        self._progress, self._on_stop = progress, on_stop
        self._behind: dict[int, tuple[int, float]] = {}
        """partition with something to read → (its offset, since when it has stood there)"""
        self._consumer: Any = None
        self._is_over = threading.Event()

    def start(self) -> None:
        """Watch from now on."""
        for work in (self._watch, self._wait_for_signal):
            threading.Thread(target=work, name="watchdog", daemon=True).start()

    def stop(self) -> None:
        """Watch no longer."""
        self._is_over.set()

    def _wait_for_signal(self) -> None:
        # Not `sigtimedwait`: where SIGCONT comes after its time is over, CPython 3.11 returns
        # whatever is in memory, and that looked like a SIGTERM (Modules/signalmodule.c).
        signal.sigwait(SIGNALS)
        self._on_stop()
        if not self._is_over.wait(STOP_S):
            _end(f"a clean stop took over {STOP_S:.0f} s")

    def _watch(self) -> None:
        looked_s = time.monotonic()
        while not self._is_over.wait(ASK_S):
            before_s, looked_s = looked_s, time.monotonic()
            if looked_s - before_s > PAUSE_S:  # We were stopped ourselves: the rest was, too.
                self._behind.clear()
            self._ask()

    def _ask(self) -> None:
        progress = self._progress()
        places = {TopicPartition(self._topic, number): number for number in progress}
        if not places:
            return
        try:
            if self._consumer is None:
                self._consumer = KafkaConsumer(
                    **client_options(self._kafka), enable_auto_commit=False
                )
            ends = self._consumer.end_offsets(list(places), timeout_ms=2_000)
        except KafkaError:  # The broker is away: who cannot read is not to blame.
            self._behind.clear()
            return
        there = {places[place]: end for place, end in ends.items()}
        stalled_s = self.stalled_s(progress, there, time.monotonic())
        if stalled_s > STALL_S:
            _end(f"there is something to read, and nothing was folded for {stalled_s:.0f} s")

    def stalled_s(
        self, progress: Mapping[int, int], ends: Mapping[int, int], now_s: float
    ) -> float:
        """Return for how long the slowest partition has been behind without a step."""
        before, self._behind = self._behind, {}
        for number, offset in progress.items():
            if offset < ends.get(number, 0):
                at, since_s = before.get(number, (offset, now_s))
                self._behind[number] = (offset, since_s if at == offset else now_s)
        return max((now_s - since_s for _, since_s in self._behind.values()), default=0.0)


def run_to_the_end(main: Coroutine[Any, Any, T]) -> T:
    """Run like `asyncio.run`; where what is left of it does not end by itself, end the process.

    A client that has lost its broker may keep a task that hears no cancellation, and a thread that
    the interpreter waits for: workers were seen to live on so, doing nothing, watched by nobody.
    """
    runner, is_closed = asyncio.Runner(), threading.Event()
    why = "what it had begun did not end"
    try:
        return runner.run(main)
    except Exception as error:
        why = f"{error}; and {why}"
        raise
    finally:
        threading.Thread(target=_see_off, args=(is_closed, why), daemon=True).start()
        runner.close()
        is_closed.set()


def _see_off(is_closed: threading.Event, why: str) -> None:
    if is_closed.wait(STOP_S):
        threading.main_thread().join()  # Now only threads are left.
        time.sleep(STOP_S)
    _end(why)


def _end(why: str) -> None:
    with suppress(OSError):  # Whoever was to read it may have ended before us.
        os.write(2, f"ended by the watchdog: {why}; start it again\n".encode())
    os._exit(HUNG)

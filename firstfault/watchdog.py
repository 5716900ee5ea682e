"""A thread that ends the process hard when its event loop no longer does its work.

Faust was seen to stand still for ever after an outage of its broker, its loop alive and a liveness
probe content; and a loop that hangs hears no signal. So this has a thread and a client of its own,
and it waits for the signals itself: the process must have blocked them before it starts a thread.
State is safe in the log; a supervisor starts us again.
"""

import os
import signal
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

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
LOOK_S = 0.2
HUNG = 70
"""Exit code of a process that was ended (EX_SOFTWARE of sysexits.h)."""


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
        self._stopping_s: float | None = None
        self._asked_s = 0.0
        self._behind: dict[int, tuple[int, float]] = {}
        """partition with something to read → (its offset, since when it has stood there)"""
        self._consumer: Any = None
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)

    def start(self) -> None:
        """Watch from now on."""
        self._thread.start()

    def stop(self) -> None:
        """Watch no longer."""
        self._is_over.set()

    def _watch(self) -> None:
        while not self._is_over.is_set():
            if signal.sigtimedwait(SIGNALS, LOOK_S) is not None and self._stopping_s is None:
                self._stopping_s = time.monotonic()
                self._on_stop()
            now_s = time.monotonic()
            if self._stopping_s is not None and now_s - self._stopping_s > STOP_S:
                self._end(f"a clean stop took over {STOP_S:.0f} s")
            if now_s - self._asked_s >= ASK_S:
                self._asked_s = now_s
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
            self._end(f"there is something to read, and nothing was folded for {stalled_s:.0f} s")

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

    def _end(self, why: str) -> None:
        os.write(2, f"ended by the watchdog: {why}; start it again\n".encode())
        os._exit(HUNG)

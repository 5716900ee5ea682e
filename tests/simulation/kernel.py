"""Simulated time: what happens next, in order of time; ties in the order of asking."""

import heapq
from collections.abc import Callable

START_US = 1_795_428_000_000_000
"""2026-11-23T10:00:00Z, the first moment of every run, microseconds since 1970."""
SECOND_US = 1_000_000


class Kernel:
    """Discrete events; `now_us` is the only clock there is."""

    def __init__(self) -> None:
        self.now_us = START_US
        self.steps = 0
        self._queue: list[tuple[int, int, Callable[[], None]]] = []
        self._asked = 0

    @property
    def now_s(self) -> float:
        """Return seconds since the start of the run."""
        return (self.now_us - START_US) / SECOND_US

    def at_us(self, when_us: int, do: Callable[[], None]) -> None:
        """Do something at a time, or at once where that has passed."""
        self._asked += 1
        heapq.heappush(self._queue, (max(when_us, self.now_us), self._asked, do))

    def at(self, when_s: float, do: Callable[[], None]) -> None:
        """Do something so many seconds after the start of the run."""
        self.at_us(START_US + round(when_s * SECOND_US), do)

    def after(self, wait_s: float, do: Callable[[], None]) -> None:
        """Do something so many seconds from now."""
        self.at_us(self.now_us + round(wait_s * SECOND_US), do)

    def every(self, period_s: float, do: Callable[[], None]) -> None:
        """Do something again and again, first after one period."""

        def again() -> None:
            do()
            self.after(period_s, again)

        self.after(period_s, again)

    def run(self, until_s: float, after_each: Callable[[], None]) -> None:
        """Let time pass; call `after_each` when a step is done."""
        end_us = START_US + round(until_s * SECOND_US)
        while self._queue and self._queue[0][0] <= end_us:
            self.now_us, _, do = heapq.heappop(self._queue)
            do()
            self.steps += 1
            after_each()
        self.now_us = end_us

"""The source `pulse`: once a second, that this collector lives, and how well.

It is not how a dead host is found: it says that the collector is heard, freshens what guards ask,
and carries the boot id. What it says of others is only which sources do their work.
"""

import asyncio
import time
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Literal

from pydantic import Field

from collectors.source import Context
from schemas.base import EntityId, Strict
from schemas.inputs import Input, Pulse

PERIOD_S = 1.0
"""The wire page: one pulse a second."""
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
"""Made anew by the kernel at each boot: random(4)."""


class PulseOptions(Strict):
    """Options of the source `pulse`."""

    source: Literal["pulse"] = "pulse"
    host: EntityId | None = Field(None, description="whose boot id this is; none: no host's")


async def pulse(context: Context, options: PulseOptions) -> AsyncGenerator[Input, None]:
    """Yield a pulse a second; the delay is how late this process got to it."""
    boot_id = _boot_id()
    # Within a boot numbers go on over a restart, so that the first beats after it are no repeats,
    # and whatever sets the clock: those since the boot count up faster than one a second.
    sequence = time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000_000
    due_s = time.monotonic()
    while True:
        late_s = time.monotonic() - due_s
        yield Pulse(
            collector=context.observer,
            seq=sequence,
            boot_id=boot_id,
            self_delay_ms=round(late_s * 1e3, 1),
            sources_ok=context.sources_ok(),
            host=options.host,
            at=context.clock(),
        )
        sequence += 1
        # Missed beats are not made up for: each would claim a second that has passed.
        due_s = max(due_s + PERIOD_S, time.monotonic())
        await asyncio.sleep(due_s - time.monotonic())


def _boot_id() -> str:
    return BOOT_ID.read_text(encoding="ascii").strip()

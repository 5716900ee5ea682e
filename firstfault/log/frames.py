"""Frames for the input log, as every producer writes them: numbered, so that a double is dropped.

Source of the shape: the wire page, "Inputs".
"""

import os
import time
from collections.abc import Sequence
from datetime import UTC, datetime

from firstfault.log import Log, Message
from schemas.base import canonical, document_of
from schemas.inputs import FRAME_INPUTS_MAX, Frame, Input
from schemas.topics import LOG


class FrameWriter:
    """Appends inputs of one source to the log of one domain.

    source: names the producer, e.g. collector:compute-3; each start of it counts as a new boot.
    """

    def __init__(self, log: Log, domain: str, source: str, partition: int = 0) -> None:
        self._log = log
        self._domain = domain
        self._partition = partition
        self._sequence = 0
        self.prefix = f"{source}/{os.getpid()}-{time.time_ns()}/"
        """How the ids of this writer's frames begin, and no other's."""

    async def write(self, inputs: Sequence[Input]) -> int:
        """Append inputs, in their order, in as few frames as hold them; return the first's offset.

        Raises:
            LogError: nothing was appended.
        """
        parts = range(0, len(inputs), FRAME_INPUTS_MAX)
        messages = [self._message(inputs[at : at + FRAME_INPUTS_MAX]) for at in parts]
        return await self._log.append(LOG, messages, self._partition)

    def _message(self, inputs: Sequence[Input]) -> Message:
        self._sequence += 1
        frame = Frame.model_construct(
            v=1,
            frame_id=f"{self.prefix}{self._sequence}",
            domain=self._domain,
            sent_at=datetime.fromtimestamp(time.time(), UTC),
            inputs=list(inputs),
        )
        return Message(self._domain, canonical(document_of(frame)).encode())

"""What a consumer answers reaches the engine: no answer passes for the double of another."""

import time
from pathlib import Path

from correlator.frames import Doubles, opened
from firstfault.log.local import all_records
from schemas.base import from_microseconds
from schemas.topics import LOCAL_FILE, LOG
from tests.consumer.stories import action, send, signed, site
from tests.consumer.test_consumer import consumer


def test_an_answer_that_waited_while_the_next_was_accepted_is_no_double(tmp_path: Path) -> None:
    site(tmp_path)
    actuator = consumer(tmp_path)
    actuator.on("fence")(lambda _: {"observed_state": "OFF", "method": "bmc_off"})
    actuator.on("notify")(lambda _: {"told": "x"})
    late = from_microseconds(time.time_ns() // 1000 - 5_000_000)
    first = signed(action("k1", verb="notify", expires_at=late))
    then = signed(action("k2", verb="fence", target="host:h1", fence_token=1))
    send(tmp_path, [first, then])
    actuator.run(for_s=1.0)
    doubles, seen = Doubles(), []
    for record in all_records(tmp_path / LOCAL_FILE, LOG):
        frame = opened(record.offset, record.log_us, record.value)
        if not doubles.has(frame.frame_id):
            given = frame.inputs[0].input
            seen.append((given.idempotency_key, given.state))  # type: ignore[union-attr]
    assert sorted(seen) == [("k1", "REJECTED"), ("k2", "ACCEPTED"), ("k2", "CONFIRMED")]

"""A collector whose broker goes away: what it tells then is spooled, and never comes late."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from datetime import datetime
from pathlib import Path

from firstfault.log import Record, between
from firstfault.log.kafka import KafkaLog
from firstfault.log.kafka_topics import topics
from schemas.base import to_microseconds
from schemas.kafka import KafkaSettings
from schemas.topics import LOG
from tests.kafka.cluster import Cluster

AWAY_S = 16.0
PATIENCE_S = 60.0


def test_a_frame_that_a_collector_has_given_up_does_not_leave_when_the_broker_is_back(
    cluster: Cluster, tmp_path: Path
) -> None:
    settings = KafkaSettings(bootstrap=cluster.bootstrap)
    with topics(settings) as there:
        there.create(there.wanted(1))
    given = ["collect", "--source", "pulse", "--host", "h1", "--kafka", cluster.bootstrap]
    program = "from firstfault.cli import main; main()"
    process = subprocess.Popen(  # noqa: S603 - our own command
        [sys.executable, "-c", program, *given, "--state", str(tmp_path)],
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    try:
        asyncio.run(_frames(settings, 5))
        cluster.kill(1)
        time.sleep(AWAY_S)
        away_us = time.time_ns() // 1000
        cluster.start(1)
        cluster.wait()
        found = asyncio.run(_frames(settings, 5, since_us=away_us))
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(PATIENCE_S)
    late_s = [(one.log_us - _sent_us(one)) / 1e6 for one in found]
    assert max(late_s) < AWAY_S / 2, late_s


async def _frames(settings: KafkaSettings, count: int, since_us: int = 0) -> list[Record]:
    """Return all frames once so many have been stamped since a time."""
    log = KafkaLog(settings)
    try:
        async with asyncio.timeout(PATIENCE_S):
            while True:
                span = await log.span(LOG)
                found = [one async for some in between(log, LOG, span) for one in some]
                if sum(one.log_us >= since_us for one in found) >= count:
                    return found
                await asyncio.sleep(0.2)
    finally:
        await log.close()


def _sent_us(record: Record) -> int:
    return to_microseconds(datetime.fromisoformat(json.loads(record.value)["sent_at"]))

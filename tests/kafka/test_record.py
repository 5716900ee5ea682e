"""A log on a real broker, recorded: a replay of it says what the fold of the log said."""

import asyncio
import json
from pathlib import Path

from firstfault.log import Record, between
from firstfault.log.control import publish_domains
from firstfault.log.kafka import KafkaLog
from firstfault.log.kafka_topics import topics
from schemas.control import Domain, DomainMap
from schemas.kafka import KafkaSettings
from schemas.topics import LOG
from tests.cli.conftest import invoke
from tests.log.recorded import RULES, TOPOLOGY, everything, folded, replayed, ticks

PARTITION = 1
DOMAINS = DomainMap(
    domains=[
        Domain(name=name, partition=PARTITION, topology=str(TOPOLOGY))
        for name in ("pod-1", "pod-2")
    ]
)


def filled(kafka: KafkaSettings) -> list[Record]:
    """Fill the log of two domains; return what is in it."""
    with topics(kafka) as there:
        there.create(there.wanted(2))

    async def story() -> list[Record]:
        log = KafkaLog(kafka)
        await publish_domains(log, DOMAINS, 2)
        for message in (*everything(), *ticks(5)):
            await log.append(LOG, [message], PARTITION)
            await asyncio.sleep(0.1 if "tick" in str(message.value) else 0)
        span = await log.span(LOG, PARTITION)
        found = [one async for some in between(log, LOG, span, PARTITION) for one in some]
        await log.close()
        return found

    return asyncio.run(story())


def test_a_recorded_log_replays_to_what_its_fold_said(kafka: KafkaSettings, tmp_path: Path) -> None:
    live = filled(kafka)
    file = tmp_path / "kafka.yaml"
    file.write_text(f"bootstrap: {kafka.bootstrap}\nprefix: {kafka.prefix}\n")
    for domain in ("pod-1", "pod-2"):
        out = tmp_path / domain
        command = f"record {{}} --kafka {{}} --domain {domain} --output json"
        told = json.loads(invoke(command, out, file).stdout)
        assert told["partition"] == PARTITION
        assert replayed(out) == folded(live, domain) != []


def test_a_replay_of_the_cluster_is_one_of_its_recording(
    kafka: KafkaSettings, tmp_path: Path
) -> None:
    filled(kafka)
    file = tmp_path / "kafka.yaml"
    file.write_text(f"bootstrap: {kafka.bootstrap}\nprefix: {kafka.prefix}\n")
    invoke("record {} --kafka {} --domain pod-1", tmp_path / "out", file)
    there = invoke(f"replay --kafka {{}} --domain pod-1 --rules {RULES} --output json", file).stdout
    again = invoke(f"replay {{}} --rules {RULES} --output json", tmp_path / "out").stdout
    assert there == again != ""

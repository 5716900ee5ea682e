"""Topics and the map of domains on a real broker."""

import asyncio
import json
import subprocess
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from kafka import KafkaAdminClient
from kafka.admin import ConfigResource, ConfigResourceType

from firstfault.log import Log, LogError
from firstfault.log.control import publish_domains, read_domains
from firstfault.log.kafka import KafkaLog
from firstfault.log.kafka_settings import client_options
from firstfault.log.kafka_topics import check_topics, topics
from schemas.control import Domain, DomainMap
from schemas.kafka import KafkaSettings
from schemas.topics import LOG, TOPICS
from tests.cli.conftest import EXAMPLES, invoke
from tests.cli.test_help import WITH_KAFKA, run_example

POD_1 = DomainMap(domains=[Domain(name="pod-1", partition=0)])


def test_what_is_made_is_as_it_must_be_and_making_it_again_changes_nothing(
    kafka: KafkaSettings,
) -> None:
    with topics(kafka) as there:
        made = there.create(there.wanted(3))
        assert made == [kafka.named(one.name) for one in TOPICS]
        assert there.create(there.wanted()) == []
        assert there.wanted()[0].partitions == 3
    check_topics(kafka)


def test_a_shell_refuses_to_start_on_what_is_not_as_it_must_be(kafka: KafkaSettings) -> None:
    with pytest.raises(LogError, match="run `firstfault topics create`"):
        check_topics(kafka)
    with topics(kafka) as there:
        there.create(there.wanted(2))
    admin = KafkaAdminClient(**client_options(kafka))
    change = {"message.timestamp.type": "CreateTime", "retention.ms": "60000"}
    resource = ConfigResource(ConfigResourceType.TOPIC, kafka.named(LOG), change)
    admin.alter_configs([resource])
    admin.close()
    with topics(kafka) as there:  # A change is told at once, and takes a moment to be there.
        end_s = time.monotonic() + 10
        while len(there.amiss(there.wanted())) < 2 and time.monotonic() < end_s:
            time.sleep(0.05)
    with pytest.raises(LogError) as refused:
        check_topics(kafka)
    told = str(refused.value).splitlines()
    assert len(told) == 2
    assert all(f"--entity-name {kafka.named(LOG)} --add-config" in line for line in told)


def test_a_log_with_other_partitions_is_told(kafka: KafkaSettings) -> None:
    with topics(kafka) as there:
        there.create(there.wanted(2))
        told = there.amiss(there.wanted(3))
    assert any("2 partitions where 3 are wanted" in line for line in told)


def on(kafka: KafkaSettings, story: Callable[[Log], Awaitable[None]]) -> None:
    async def whole() -> None:
        log = KafkaLog(kafka)
        try:
            await story(log)
        finally:
            await log.close()

    asyncio.run(whole())


def test_the_map_of_domains_is_published_once_and_never_moves_a_domain(
    kafka: KafkaSettings,
) -> None:
    with topics(kafka) as there:
        there.create(there.wanted(2))

    async def story(log: Log) -> None:
        assert await read_domains(log) is None
        assert await publish_domains(log, POD_1, 2)
        assert not await publish_domains(log, POD_1, 2)
        grown = DomainMap(domains=[*POD_1.domains, Domain(name="pod-2", partition=1)])
        assert await publish_domains(log, grown, 2)
        assert await read_domains(log) == grown
        moved = DomainMap(domains=[Domain(name="pod-1", partition=1)])
        with pytest.raises(LogError, match="cannot move to 1"):
            await publish_domains(log, moved, 2)
        beyond = DomainMap(domains=[Domain(name="pod-3", partition=2)])
        with pytest.raises(LogError, match="partition 2 of a log that has 2"):
            await publish_domains(log, beyond, 2)
        assert await read_domains(log) == grown

    on(kafka, story)


def test_the_commands_make_check_and_say(kafka: KafkaSettings, tmp_path: Path) -> None:
    file = tmp_path / "kafka.yaml"
    file.write_text(f"bootstrap: {kafka.bootstrap}\nprefix: {kafka.prefix}\n")
    told = json.loads(invoke("topics check --kafka {} --output json", file, code=1).stdout)
    assert len(told["amiss"]) == len(TOPICS)
    domains = EXAMPLES / "domains.yaml"
    create = "topics create --kafka {} --partitions 2 --domains {} --output json"
    made = json.loads(invoke(create, file, domains).stdout)
    assert (len(made["made"]), made["published"], made["amiss"]) == (len(TOPICS), True, [])
    again = json.loads(
        invoke("topics create --kafka {} --domains {} --output json", file, domains).stdout
    )
    assert (again["made"], again["published"]) == ([], False)
    assert "2 partitions: as they must be" in invoke("topics check --kafka {}", file).stdout
    other = tmp_path / "domains.yaml"
    other.write_text("domains:\n- {name: pod-1, partition: 1}\n")
    refused = invoke("topics create --kafka {} --domains {}", file, other, code=2)
    assert "cannot move to 1" in refused.output


def test_a_cluster_that_is_not_there_is_said_in_a_sentence() -> None:
    told = invoke("topics check --kafka 127.0.0.1:1", code=2)
    assert "127.0.0.1:1" in told.output


@pytest.mark.parametrize("command", sorted(WITH_KAFKA))
def test_every_example_that_needs_a_broker_runs(
    kafka: KafkaSettings, command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "examples").symlink_to(EXAMPLES)
    (tmp_path / "kafka.yaml").write_text(f"bootstrap: {kafka.bootstrap}\nprefix: {kafka.prefix}\n")
    monkeypatch.chdir(tmp_path)
    run_example(invoke, command, ("localhost:9092", "kafka.yaml"))


def test_the_planned_script_is_one_that_a_shell_reads() -> None:
    script = invoke("topics plan").stdout
    subprocess.run(["sh", "-n"], input=script, text=True, check=True)

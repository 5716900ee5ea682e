"""Operators' commands and consumers of actions on a real broker."""

import asyncio
import json
import shutil
import threading
import time
from pathlib import Path

import pytest
from kafka import KafkaAdminClient, TopicPartition

from correlator.rules import load_pack
from firstfault import Action, ActionConsumer, Proof
from firstfault.log import LogError, Message
from firstfault.log.kafka import KafkaLog
from firstfault.log.kafka_settings import client_options
from firstfault.log.kafka_topics import topics
from firstfault.operations import Site, results
from firstfault.packs import find_pack
from schemas.inputs import Result
from schemas.kafka import KafkaSettings
from schemas.topics import ACTIONS
from tests.cli.conftest import invoke
from tests.consumer.stories import action, signed, site
from tests.kafka.workers import RULES, WorkerProcess, made_site, running
from tests.signed import ACTUATOR, DOMAIN, OPERATOR

PARTITION = 2
PATIENCE_S = 60.0
REPLY_TO = {"key": DOMAIN, "partition": PARTITION}


@pytest.fixture
def settings(kafka: KafkaSettings) -> KafkaSettings:
    """A cluster with the topics of a site."""
    with topics(kafka) as there:
        there.create(there.wanted(3))
    return kafka


def consumer(folder: Path, settings: KafkaSettings) -> ActionConsumer:
    return ActionConsumer.kafka(
        settings,
        name=ACTUATOR,
        keys=folder / "keys.yaml",
        private_key=folder / "actuator.pem",
        ledger=folder / "ledger.db",
    )


def send(settings: KafkaSettings, values: list[bytes]) -> None:
    async def whole() -> None:
        log = KafkaLog(settings)
        await log.append(ACTIONS, [Message("k", value) for value in values], PARTITION)
        await log.close()

    asyncio.run(whole())


def answered(settings: KafkaSettings) -> list[Result]:
    async def whole() -> list[Result]:
        log = KafkaLog(settings)
        try:
            return await results(Site(log, DOMAIN, PARTITION))
        finally:
            await log.close()

    return asyncio.run(whole())


def until(settings: KafkaSettings, found: ActionConsumer, count: int) -> list[Result]:
    """Run a consumer until so many results are in the log; return them."""

    def watch() -> None:
        end_s = time.monotonic() + PATIENCE_S
        while len(answered(settings)) < count and time.monotonic() < end_s:
            time.sleep(0.2)
        found.stop()

    watcher = threading.Thread(target=watch)
    watcher.start()
    found.run()
    watcher.join()
    return answered(settings)


def test_an_action_is_carried_out_once_and_answered_where_it_says(
    settings: KafkaSettings, tmp_path: Path
) -> None:
    site(tmp_path)
    called: list[str] = []

    def restart(given: Action) -> Proof:
        called.append(given.idempotency_key)
        return {"observed_state": "RUNNING"}

    given = action("k1", reply_to=REPLY_TO)
    fence = action("k2", reply_to=REPLY_TO, verb="fence", target="host:h1", fence_token=1)
    foreign = signed(action("k3", reply_to=REPLY_TO), by=OPERATOR)
    for count, values in (
        (3, [foreign, b"garbage", signed(given), signed(fence)]),
        (4, [signed(given)]),
    ):
        send(settings, values)
        found = consumer(tmp_path, settings)
        found.on("restart_process")(restart)
        found.on("fence")(lambda given: {"method": "bmc_off", "observed_state": "OFF"})
        told = [(one.idempotency_key, one.state) for one in until(settings, found, count)]
        assert set(told) == {("k1", "CONFIRMED"), ("k2", "ACCEPTED"), ("k2", "CONFIRMED")}
    assert called == ["k1"]


def test_actions_that_were_dropped_unseen_end_it_with_a_sentence(
    settings: KafkaSettings, tmp_path: Path
) -> None:
    site(tmp_path)
    send(settings, [signed(action(f"k{number}", reply_to=REPLY_TO)) for number in range(3)])
    found = consumer(tmp_path, settings)
    found.on("restart_process")(lambda given: {"observed_state": "RUNNING"})
    until(settings, found, 3)
    send(settings, [signed(action(f"l{number}", reply_to=REPLY_TO)) for number in range(3)])
    admin = KafkaAdminClient(**client_options(settings))
    admin.delete_records({TopicPartition(settings.named(ACTIONS), PARTITION): 5})
    admin.close()
    with pytest.raises(LogError, match="were dropped that this consumer has not seen"):
        consumer(tmp_path, settings).run(for_s=PATIENCE_S)


def test_commands_are_answered_by_a_worker_that_signs(kafka: KafkaSettings, tmp_path: Path) -> None:
    keys, cluster = tmp_path / "keys", tmp_path / "kafka.yaml"
    cluster.write_text(f"bootstrap: {kafka.bootstrap}\nprefix: {kafka.prefix}\n")
    invoke("keys new correlator:w1 --may owner_claim,action --out {}", keys)
    invoke("keys new operator:op-7 --may hold,release --out {}", keys)
    options = ("--keys", str(keys / "keys.yaml"))
    signing = ("--signing-key", str(keys / "correlator-w1.pem"))
    mine = f"--kafka {cluster} --key {keys / 'operator-op-7.pem'} --output json"

    async def story() -> None:
        made = await made_site(kafka, 2, 2)
        async with running(WorkerProcess(made, "w1", *options, *signing)):
            held = await asyncio.to_thread(
                invoke, f"hold --domain pod-1 --reason 'storage work' --wait 60s {mine}"
            )
            answer = json.loads(held.stdout)
            assert (answer["verdict"], answer["reason"]) == ("accepted", "domain_hold")
            unsigned = f"hold --domain pod-1 --reason x --wait 60s --kafka {cluster}"
            refused = f"{unsigned} --by operator:op-8 --output json"
            told = await asyncio.to_thread(invoke, refused, code=1)
            assert json.loads(told.stdout)["reason"] == "signature_missing"
            nobody = await asyncio.to_thread(
                invoke, f"hold --domain pod-9 --reason x {mine}", code=2
            )
            assert "did you mean pod-" in nobody.stderr
            for line in ("incidents list --all", "maintenance list", "actions show last"):
                command = f"{line} --domain pod-1 --kafka {cluster}"
                assert (await asyncio.to_thread(invoke, command)).stdout.startswith("no ")

    asyncio.run(story())


def test_rules_are_published_activated_and_replayed_by_their_hash(
    kafka: KafkaSettings, tmp_path: Path
) -> None:
    pack, cluster = tmp_path / "mine", tmp_path / "kafka.yaml"
    cluster.write_text(f"bootstrap: {kafka.bootstrap}\nprefix: {kafka.prefix}\n")
    shutil.copytree(find_pack("nfvi"), pack)
    shutil.copy(find_pack("nfvi").parent / "topology-schema.yaml", tmp_path)
    extra = "kind: symptom\nname: app.gone\nmatch: {signal: app.hb.lost}\n"
    (pack / "more.yaml").write_text(extra)
    name = load_pack(pack).hash
    mine = f"--domain pod-1 --by operator:op-7 --reason x --wait 60s --kafka {cluster}"

    async def told(command: str, *paths: Path) -> str:
        return (await asyncio.to_thread(invoke, command, *paths)).stdout

    async def story() -> None:
        made = await made_site(kafka, 2, 2)
        async with running(WorkerProcess(made, "w1")):
            assert "dry_run" in await told(f"mode dry_run {mine}")
            assert name in await told(f"rules publish {{}} --kafka {cluster}", pack)
            assert "published before" in await told(f"rules publish {{}} --kafka {cluster}", pack)
            assert "(rules_activated)" in await told(f"rules activate {name} {mine}")
        async with running(WorkerProcess(made, "w2")):  # It folds the same, from the beginning.
            assert "(domain_hold)" in await told(f"hold {mine}")
        out = tmp_path / "out"
        await told(f"record {{}} --domain pod-1 --kafka {cluster}", out)
        shown = await told(f"replay {{}} --rules {RULES}", out)
        assert "(rules_activated)" in shown
        assert "rules_unknown" not in shown
        decided = await told(f"replay --kafka {cluster} --domain pod-1 --rules {RULES}")
        assert decided == shown

    asyncio.run(story())

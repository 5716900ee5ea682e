"""What a topic must be like, asked without a broker."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from correlator.rules import RuleFaults
from firstfault.kafka import kafka_settings, read_domain_file
from firstfault.log import LogError
from firstfault.log.kafka_settings import client_options
from firstfault.log.kafka_topics import Found, Wanted, amiss, rights, wanted
from schemas.control import Domain, DomainMap
from schemas.kafka import KafkaSettings
from schemas.topics import ACTIONS, INCIDENTS, LOG

KAFKA = KafkaSettings(bootstrap="kafka:9092", prefix="net.")


def topic(name: str) -> Wanted:
    return next(one for one in wanted(KAFKA) if one.topic.name == name)


def as_wanted(want: Wanted) -> Found:
    return Found(want.partitions, want.copies, want.settings)


def with_setting(name: str, key: str, value: str) -> list[str]:
    want = topic(name)
    found = Found(want.partitions, want.copies, {**want.settings, key: value})
    return list(amiss(KAFKA, want, found))


def test_what_is_as_it_was_made_is_not_amiss() -> None:
    assert [one for want in wanted(KAFKA) for one in amiss(KAFKA, want, as_wanted(want))] == []


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("cleanup.policy", "compact"),
        ("cleanup.policy", "compact,delete"),
        ("message.timestamp.type", "CreateTime"),
        ("max.message.bytes", "1048588"),
        ("min.insync.replicas", "1"),
        ("unclean.leader.election.enable", "true"),
        ("retention.ms", "3600000"),
        ("retention.bytes", "1073741824"),
        ("retention.ms", ""),
    ],
)
def test_a_setting_that_could_lose_something_is_told_with_what_mends_it(
    key: str, value: str
) -> None:
    (told,) = with_setting(LOG, key, value)
    assert f"net.{LOG}: {key} is " in told
    assert f"--entity-name net.{LOG} --add-config {key}={topic(LOG).settings[key]}" in told


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("retention.ms", "-1"),
        ("retention.ms", "86400000"),
        ("max.message.bytes", "8388608"),
        ("min.insync.replicas", "3"),
    ],
)
def test_a_setting_that_keeps_more_is_as_good(key: str, value: str) -> None:
    assert with_setting(LOG, key, value) == []


def test_partitions_and_copies_are_told() -> None:
    want = topic(LOG)
    (told,) = amiss(KAFKA, want, replace(as_wanted(want), partitions=12))
    assert "12 partitions where 24 are wanted" in told
    (told,) = amiss(KAFKA, want, replace(as_wanted(want), copies=1))
    assert "1 of 3 copies" in told
    (told,) = amiss(KAFKA, want, None)
    assert "run `firstfault topics create`" in told


def test_a_small_cluster_asks_for_what_it_can_keep() -> None:
    one = next(iter(wanted(KAFKA, partitions=3, brokers=1)))
    assert (one.partitions, one.copies, one.settings["min.insync.replicas"]) == (3, 1, "1")


def test_only_a_worker_may_write_what_is_said() -> None:
    def writers(name: str) -> Iterator[str]:
        for right in rights(KAFKA):
            if f"--operation Write --topic net.{name}" in right.lines:
                yield right.role

    assert list(writers(ACTIONS)) == ["worker"]
    assert list(writers(INCIDENTS)) == ["worker"]
    assert list(writers(LOG)) == ["worker", "region", "collector", "actuator", "operator"]


# ---- files ----------------------------------------------------------------------------------


def test_kafka_names_a_broker_or_a_file(tmp_path: Path) -> None:
    assert kafka_settings("a:1,b:2").bootstrap == "a:1,b:2"
    secret = tmp_path / "password"
    secret.write_text("geheim\n")
    file = tmp_path / "kafka.yaml"
    file.write_text(
        f"bootstrap: kafka:9093\nprefix: net.\ntls: {{}}\n"
        f"sasl: {{user: firstfault, password_file: {secret}}}\n"
    )
    options = client_options(kafka_settings(str(file)))
    assert options["security_protocol"] == "SASL_SSL"
    assert options["sasl_mechanism"] == "SCRAM-SHA-512"
    assert options["sasl_plain_password"] == "geheim"  # noqa: S105 - of a file the test wrote
    assert options["ssl_context"].check_hostname


@pytest.mark.parametrize("text", ["kafka", "kafka:port", "https://kafka:9092", ""])
def test_what_is_neither_is_said(text: str) -> None:
    with pytest.raises(LogError, match="neither host:port nor a file"):
        kafka_settings(text)


def test_faults_of_the_files_are_located(tmp_path: Path) -> None:
    file = tmp_path / "kafka.yaml"
    file.write_text("bootstrap: kafka:9092\ntls: {cert: c.pem}\n")
    with pytest.raises(RuleFaults, match=r"kafka.yaml:2:\d+.* cert and key"):
        kafka_settings(str(file))
    file.write_text("bootstrap: kafka:9092\nsasl: {user: a, password: b}\n")
    with pytest.raises(RuleFaults, match=r"kafka.yaml:2:\d+"):
        kafka_settings(str(file))
    with pytest.raises(RuleFaults, match="nowhere"):
        kafka_settings("nowhere.yaml")


def test_a_certificate_or_password_that_cannot_be_read_is_said(tmp_path: Path) -> None:
    file = tmp_path / "kafka.yaml"
    file.write_text(f"bootstrap: kafka:9093\ntls: {{ca: {tmp_path}/none.pem}}\n")
    with pytest.raises(LogError, match="none"):
        client_options(kafka_settings(str(file)))
    file.write_text(f"bootstrap: k:1\nsasl: {{user: a, password_file: {tmp_path}/none}}\n")
    with pytest.raises(LogError, match="none"):
        client_options(kafka_settings(str(file)))


def test_domains_are_read_with_their_topologies_beside_them(tmp_path: Path) -> None:
    file = tmp_path / "domains.yaml"
    file.write_text("domains:\n- {name: pod-1, partition: 3, topology: pod-1.json}\n")
    (one,) = read_domain_file(file).domains
    assert one == Domain(name="pod-1", partition=3, topology=str(tmp_path / "pod-1.json"))


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("domains: []\n", "domains"),
        ("domains:\n- {name: a, partition: -1}\n", ":2:"),
        (
            "domains:\n- {name: a, partition: 0}\n- {name: a, partition: 1}\n",
            "a stands there twice",
        ),
        ("domains:\n- {name: a, partition: 0, topolgy: x}\n", "topolgy"),
        ("domains:\n- {name: a, partition: 0}\n---\nx: 1\n", "one document"),
    ],
)
def test_a_map_that_cannot_be_is_refused(tmp_path: Path, text: str, fault: str) -> None:
    file = tmp_path / "domains.yaml"
    file.write_text(text)
    with pytest.raises(RuleFaults, match=fault):
        read_domain_file(file)


def test_a_domain_moves_only_with_a_new_log() -> None:
    before = DomainMap(domains=[Domain(name="a", partition=0), Domain(name="b", partition=1)])
    grown = DomainMap(domains=[*before.domains, Domain(name="c", partition=1)])
    moved = DomainMap(domains=[Domain(name="a", partition=1)])
    assert grown.moved_from(before) is None
    assert moved.moved_from(before) == (
        "a is in partition 0, and cannot move to 1 while the log lives"
    )
    anew = moved.model_copy(update={"log_generation": "1"})
    assert anew.moved_from(before) is None
    assert [one.name for one in grown.in_partition(1)] == ["b", "c"]

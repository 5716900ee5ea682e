"""Apache Kafka in a container, for tests on a machine that has a container engine."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from xml.etree import ElementTree as ET

import docker
from docker.errors import DockerException
from testcontainers.core.container import DockerContainer
from testcontainers.core.wait_strategies import LogMessageWaitStrategy

from tests.kafka.cluster import POM, START_S_MAX, free_ports

PORT = 9092


def container_engine() -> str | None:
    """Return what container engine answers; None where none does."""
    try:
        client = docker.from_env(timeout=5)
        version: str = client.version()["Version"]
    except DockerException:
        return None
    client.close()
    return f"Docker {version}"


@contextmanager
def in_container() -> Iterator[str]:
    """Run the broker that the others run; yield its bootstrap address."""
    (port,) = free_ports(1)
    container = (
        DockerContainer(f"apache/kafka:{_version(POM)}")
        .with_bind_ports(PORT, port)
        .with_envs(
            KAFKA_NODE_ID="1",
            KAFKA_PROCESS_ROLES="broker,controller",
            KAFKA_LISTENERS=f"PLAINTEXT://:{PORT},CONTROLLER://:9093",
            # Clients connect to the address that the broker tells them.
            KAFKA_ADVERTISED_LISTENERS=f"PLAINTEXT://127.0.0.1:{port}",
            KAFKA_CONTROLLER_LISTENER_NAMES="CONTROLLER",
            KAFKA_LISTENER_SECURITY_PROTOCOL_MAP="CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT",
            KAFKA_CONTROLLER_QUORUM_VOTERS="1@localhost:9093",
            KAFKA_OFFSETS_TOPIC_REPLICATION_FACTOR="1",
            KAFKA_TRANSACTION_STATE_LOG_REPLICATION_FACTOR="1",
            KAFKA_TRANSACTION_STATE_LOG_MIN_ISR="1",
            KAFKA_SHARE_COORDINATOR_STATE_TOPIC_REPLICATION_FACTOR="1",
            KAFKA_SHARE_COORDINATOR_STATE_TOPIC_MIN_ISR="1",
            KAFKA_GROUP_INITIAL_REBALANCE_DELAY_MS="0",
            KAFKA_AUTO_CREATE_TOPICS_ENABLE="false",
        )
        .waiting_for(
            LogMessageWaitStrategy("Kafka Server started").with_startup_timeout(int(START_S_MAX))
        )
    )
    with container:
        yield f"127.0.0.1:{port}"


def _version(pom: Path) -> str:
    spaces = {"m": "http://maven.apache.org/POM/4.0.0"}
    found = ET.parse(pom).find(".//m:dependency/m:version", spaces)  # noqa: S314 - our own file
    if found is None or not found.text:
        raise ValueError(f"{pom} names no version")
    return found.text

"""The broker that these tests run on, and topics of its own for each test.

A broker is looked for in this order: the one that KAFKA_BOOTSTRAP names; Apache Kafka in a
container, where a container engine answers; Apache Kafka on plain Java. Where none is to be had the
run fails; it is never left out. A test that kills brokers asks for `cluster` or `cluster_of_three`.
"""

import os
import secrets
from collections.abc import Iterator
from contextlib import closing, contextmanager

import pytest

from schemas.kafka import KafkaSettings
from tests.kafka.cluster import Cluster, NoBrokerError, lacking
from tests.kafka.container import container_engine, in_container

FOUND = pytest.StashKey[str]()


@pytest.fixture(scope="session")
def broker(pytestconfig: pytest.Config) -> Iterator[str]:
    """Bootstrap address of the broker that all tests share."""
    given = os.environ.get("KAFKA_BOOTSTRAP")
    if given:
        pytestconfig.stash[FOUND] = f"the one at KAFKA_BOOTSTRAP, {given}"
        yield given
        return
    engine = container_engine()
    if engine is not None:
        with in_container() as bootstrap:
            pytestconfig.stash[FOUND] = f"in a container of {engine}, at {bootstrap}"
            yield bootstrap
        return
    with _own() as cluster:
        pytestconfig.stash[FOUND] = f"on this machine's Java, at {cluster.bootstrap}"
        yield cluster.bootstrap


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Say on which broker the tests ran."""
    found = config.stash.get(FOUND, "")
    if found:
        terminalreporter.line(f"broker: {found}")


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    """One broker of the test's own, to be killed or stopped."""
    with _own() as found:
        yield found


@pytest.fixture
def cluster_of_three() -> Iterator[Cluster]:
    """Three brokers of the test's own; each topic has three copies, two of them in sync."""
    with _own(3) as found:
        yield found


@pytest.fixture
def kafka(broker: str) -> KafkaSettings:
    """Settings whose prefix no other test has: its topics and groups are its own."""
    return KafkaSettings(bootstrap=broker, prefix=f"test-{secrets.token_hex(4)}.")


@contextmanager
def _own(brokers: int = 1) -> Iterator[Cluster]:
    missing = lacking()
    if missing:
        pytest.exit(
            "no Kafka broker for these tests: set KAFKA_BOOTSTRAP, start a container engine, or "
            f"install {' and '.join(missing)}",
            returncode=1,
        )
    try:
        cluster = Cluster(brokers).__enter__()
    except NoBrokerError as error:
        pytest.exit(f"no Kafka broker for these tests: {error}", returncode=1)
    with closing(cluster):
        yield cluster

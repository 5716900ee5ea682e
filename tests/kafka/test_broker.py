"""The brokers that the other tests rely on do what they are asked to."""

from kafka import KafkaAdminClient

from firstfault.log.kafka_settings import client_options
from schemas.kafka import KafkaSettings
from tests.kafka.cluster import Cluster, brokers_seen


def test_the_broker_answers_clients(kafka: KafkaSettings) -> None:
    admin = KafkaAdminClient(**client_options(kafka))
    try:
        assert admin.describe_cluster()["brokers"]
    finally:
        admin.close()


def test_a_broker_that_was_killed_comes_back_at_its_port(cluster: Cluster) -> None:
    port = cluster.ports[1]
    cluster.kill(1)
    assert brokers_seen(port) == -1
    cluster.start(1)
    cluster.wait()
    assert brokers_seen(port) == 1


def test_a_broker_that_is_paused_answers_nobody_until_it_goes_on(cluster: Cluster) -> None:
    port = cluster.ports[1]
    cluster.pause(1)
    assert brokers_seen(port) == -1
    cluster.resume(1)
    cluster.wait()
    assert brokers_seen(port) == 1


def test_three_brokers_know_each_other_and_go_on_as_two(cluster_of_three: Cluster) -> None:
    cluster_of_three.kill(2)
    cluster_of_three.wait()
    assert brokers_seen(cluster_of_three.ports[1]) == 2

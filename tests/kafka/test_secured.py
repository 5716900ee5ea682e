"""A cluster that wants encryption and a password: every client of ours gives both."""

import asyncio
import datetime
import gc
import ipaddress
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from kafka import KafkaAdminClient
from kafka.admin import ScramMechanism, UserScramCredentialUpsertion

from firstfault.kafka import kafka_settings
from firstfault.log import LogError
from firstfault.log.kafka import KafkaLog
from firstfault.log.kafka_settings import client_options
from firstfault.log.kafka_topics import check_topics, topics
from schemas.kafka import KafkaSettings
from schemas.topics import LOG
from tests.kafka.cluster import Cluster, free_ports
from tests.log.contract import first, messages, values

DAY = datetime.timedelta(days=1)
USER, PASSWORD = "firstfault", "swordfish"


def certificate(folder: Path) -> tuple[Path, Path]:
    """Write a key with its certificate, signed by itself; return both, and the certificate."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "kafka")])
    now = datetime.datetime.now(tz=datetime.UTC)  # noqa: TID251 - it must be valid today
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - DAY)
        .not_valid_after(now + DAY)
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]),
            critical=False,
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
        .public_bytes(Encoding.PEM)
    )
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    both, alone = folder / "broker.pem", folder / "ca.pem"
    both.write_bytes(private + made)
    alone.write_bytes(made)
    return both, alone


@pytest.fixture
def secured(tmp_path: Path) -> Iterator[Path]:
    """The file of settings of a broker that wants both."""
    both, alone = certificate(tmp_path)
    login = "org.apache.kafka.common.security.scram.ScramLoginModule required;"
    settings: dict[str, object] = {
        "listener.security.protocol.map": (
            "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SASL_SSL:SASL_SSL"
        ),
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": both,
        "sasl.enabled.mechanisms": "SCRAM-SHA-512",
        "listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config": login,
    }
    cluster = Cluster(settings=settings)
    (cluster.secure_port,) = free_ports(1)
    with cluster:
        admin = KafkaAdminClient(bootstrap_servers=cluster.bootstrap)
        mechanism = ScramMechanism.SCRAM_SHA_512
        admin.alter_user_scram_credentials(
            [UserScramCredentialUpsertion(USER, mechanism, PASSWORD)]
        )
        admin.close()
        (tmp_path / "password").write_text(PASSWORD + "\n")
        file = tmp_path / "kafka.yaml"
        file.write_text(
            f"bootstrap: 127.0.0.1:{cluster.secure_port}\n"
            f"tls: {{ca: {alone}}}\n"
            f"sasl: {{user: {USER}, password_file: {tmp_path / 'password'}}}\n"
        )
        yield file


def with_password(settings: KafkaSettings, file: Path, text: str) -> KafkaSettings:
    file.write_text(text)
    assert settings.sasl is not None
    sasl = settings.sasl.model_copy(update={"password_file": str(file)})
    return settings.model_copy(update={"sasl": sasl})


# aiokafka leaves a connection that was refused to the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_every_client_reaches_it(secured: Path, tmp_path: Path) -> None:
    settings = kafka_settings(str(secured))
    assert client_options(settings)["security_protocol"] == "SASL_SSL"
    with topics(settings) as there:
        there.create(there.wanted(1))
    check_topics(settings)

    async def story() -> None:
        log = KafkaLog(settings)
        await log.append(LOG, messages("a", "b"))
        assert values(await first(log, 2)) == ["a", "b"]
        await log.close()

    asyncio.run(story())

    wrong = with_password(settings, tmp_path / "wrong", "herring")
    with pytest.raises(LogError, match="127"), topics(wrong) as there:
        there.wanted()

    async def refused() -> None:
        log = KafkaLog(wrong, append_s=3.0)
        with pytest.raises(LogError):
            await log.append(LOG, messages("c"))
        await log.close()

    asyncio.run(refused())
    gc.collect()

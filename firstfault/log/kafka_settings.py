"""Settings of a Kafka cluster as its clients take them: aiokafka and kafka-python alike.

Reads the files that the settings name: certificates and the password.
"""

import logging
import ssl
import time
from pathlib import Path
from typing import Any

from firstfault.log import LogError
from schemas.kafka import KafkaSettings

UNREACHED = "no broker lets us in: are address, TLS, name and password as it wants them?"
"""Neither client says which of them it is."""


def client_options(settings: KafkaSettings) -> dict[str, Any]:
    """Return the keyword arguments by which any client reaches the cluster.

    Raises:
        LogError: a file cannot be read, or is none of its kind.
    """
    options: dict[str, Any] = {
        "bootstrap_servers": settings.bootstrap.split(","),
        "client_id": settings.client_id,
        "security_protocol": security_protocol(settings),
    }
    if settings.tls is not None:
        options["ssl_context"] = ssl_context(settings)
    if settings.sasl is not None:
        options["sasl_mechanism"] = settings.sasl.mechanism
        options["sasl_plain_username"] = settings.sasl.user
        options["sasl_plain_password"] = password(settings)
    return options


def security_protocol(settings: KafkaSettings) -> str:
    """Return Kafka's word for how a connection is protected.

    >>> security_protocol(KafkaSettings(bootstrap="kafka:9092"))
    'PLAINTEXT'
    """
    kind = "SSL" if settings.tls else "PLAINTEXT"
    return f"SASL_{kind}" if settings.sasl else kind


def ssl_context(settings: KafkaSettings) -> ssl.SSLContext | None:
    """Return what a connection is encrypted with; None where it is not.

    Raises:
        LogError: a file cannot be read, or is none of its kind.
    """
    tls = settings.tls
    if tls is None:
        return None
    try:
        context = ssl.create_default_context(cafile=tls.ca)
        if tls.cert is not None:
            context.load_cert_chain(tls.cert, tls.key)
    except (OSError, ssl.SSLError) as error:
        files = ", ".join(one for one in (tls.ca, tls.cert, tls.key) if one)
        msg = f"{files}: {error}"
        raise LogError(msg) from error
    return context


def password(settings: KafkaSettings) -> str | None:
    """Return the password; None where there is none.

    Raises:
        LogError: its file cannot be read.
    """
    if settings.sasl is None:
        return None
    file = Path(settings.sasl.password_file)
    try:
        return file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeError) as error:
        msg = f"{file}: {error}"
        raise LogError(msg) from error


class RarelySame(logging.Filter):
    """Lets a line of a library through once in a while: an outage makes them by the hundred."""

    def __init__(self, pause_s: float = 10.0) -> None:
        super().__init__()
        self._pause_s = pause_s
        self._said_s: dict[tuple[str, int], float] = {}
        """(logger, line) → when it last spoke; as many as there are lines that speak"""

    def filter(self, record: logging.LogRecord) -> bool:
        """See `logging.Filter.filter`."""
        place, now_s = (record.name, record.lineno), time.monotonic()
        if now_s - self._said_s.get(place, -self._pause_s) < self._pause_s:
            return False
        self._said_s[place] = now_s
        return True


def quiet_libraries(least: int = logging.WARNING) -> None:
    """Let the libraries' own log say only what is wrong, and the same line only once in a while."""
    handler = logging.StreamHandler()
    handler.addFilter(RarelySame())
    for name in ("aiokafka", "faust", "mode", "kafka"):
        logger = logging.getLogger(name)
        logger.setLevel(least)
        logger.handlers = [handler]
        logger.propagate = False

"""How a Kafka cluster is reached: the file that ``--kafka FILE`` names.

Secrets stay out of it: passwords stand in files of their own.
"""

from typing import Literal

from pydantic import Field, model_validator

from schemas.base import Strict


class Tls(Strict):
    """Encryption, and whom to trust; with a certificate of ours the broker knows us by it."""

    ca: str | None = Field(None, description="certificates to trust; none: the system's")
    cert: str | None = Field(None, description="our certificate, PEM")
    key: str | None = Field(None, description="its private key, PEM")

    @model_validator(mode="after")
    def _has_both(self) -> "Tls":
        if (self.cert is None) != (self.key is None):
            msg = "cert and key are given together"
            raise ValueError(msg)
        return self


class Sasl(Strict):
    """A name and a password."""

    mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = Field("SCRAM-SHA-512")
    user: str = Field(min_length=1)
    password_file: str = Field(description="the password alone, e.g. /run/secrets/kafka")


class KafkaSettings(Strict):
    """How to reach a cluster, the same for every client."""

    bootstrap: str = Field(
        pattern=r"^[^\s,/]+:\d+(,[^\s,/]+:\d+)*$", description="host:port, more after commas"
    )
    prefix: str = Field(
        "",
        pattern=r"^[A-Za-z0-9._-]*$",
        max_length=100,
        description="before the name of every topic and group, on a cluster shared with others",
    )
    client_id: str = Field("firstfault", min_length=1, description="in the broker's own log")
    tls: Tls | None = Field(None, description="none: not encrypted")
    sasl: Sasl | None = Field(None, description="none: no password")

    def named(self, topic: str) -> str:
        """Return what a topic or group is called on this cluster."""
        return self.prefix + topic

"""Ground rules of every message and file: two kinds of model, entity ids, units, canonical bytes.

Messages on the wire are *tolerant* (unknown fields are kept, so a rolling upgrade loses nothing);
files that people write are *strict* (an unknown key is an error). Everything is frozen.
"""

import hashlib
import json
import re
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
)
from pydantic.json_schema import WithJsonSchema

MICROSECONDS_PER_SECOND = 1_000_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)

EntityId = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*:.+", max_length=512)]
"""``kind:rest``, split at the first colon, e.g. ``host:compute-3``."""

INT64_MAX = 2**63 - 1
"""The largest integer that every store and every consumer holds."""
LONGEST_S = 10 * 365 * 86_400.0
"""A time span that is longer is a mistake."""


def _is_moment(text: str) -> str:
    try:
        to_microseconds(datetime.fromisoformat(text))
    except (ValueError, TypeError, OverflowError):  # Or one without its offset.
        msg = "a time as RFC 3339 has it, e.g. 2026-11-23T10:00:00.012345Z"
        raise ValueError(msg) from None
    return text


Moment = Annotated[
    str, AfterValidator(_is_moment), WithJsonSchema({"type": "string", "format": "date-time"})
]
"""A time that stays the text it is, since it is signed; RFC 3339, with its offset."""

Utc = AwareDatetime
"""An aware time stamp, RFC 3339 on the wire, e.g. ``2026-11-23T10:00:00.012345Z``."""


class Wire(BaseModel):
    """A message: frozen, and tolerant of fields a newer producer added."""

    model_config = ConfigDict(frozen=True, extra="allow", allow_inf_nan=False)


class Strict(BaseModel):
    """A document people write: frozen, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


_ENTITY = re.compile(r"[A-Za-z_][A-Za-z0-9_]*:.+")
ENTITY_CHARACTERS_MAX = 512


def is_entity(text: str) -> bool:
    """Claim that a text is an `EntityId`.

    >>> is_entity("host:compute-3"), is_entity("compute-3"), is_entity("host:")
    (True, False, False)
    """
    return len(text) <= ENTITY_CHARACTERS_MAX and _ENTITY.match(text) is not None


def kind_of(entity: str) -> str:
    """Return the kind of an entity id.

    >>> kind_of("app:bgp:IntGW-01:10.30.2.6")
    'app'
    """
    return entity.partition(":")[0]


def canonical(document: Any) -> str:  # noqa: ANN401 - any JSON value is meant
    """Return the one JSON text of a value: sorted keys, no spaces, no NaN.

    >>> canonical({"b": 1, "a": [1.5, None]})
    '{"a":[1.5,null],"b":1}'
    """
    return json.dumps(
        document, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )


def document_of(message: BaseModel) -> dict[str, Any]:
    """Return a message as the JSON object that is written and signed: nothing that is unset."""
    # By way of text: a number beyond a double's range (1e999) becomes null there.
    written = message.model_dump_json(by_alias=True, exclude_none=True)
    document: dict[str, Any] = json.loads(written)
    return document


def digest(*parts: object) -> str:
    """Return 32 hexadecimal digits of SHA-256 over the parts: ids are hashes, never random."""
    return hashlib.sha256(canonical(parts).encode()).hexdigest()[:32]


def to_microseconds(moment: datetime) -> int:
    """Return microseconds since 1970 of an aware time.

    >>> to_microseconds(datetime(1970, 1, 1, 0, 0, 1, 5, tzinfo=UTC))
    1000005
    """
    return (moment - _EPOCH) // _MICROSECOND


def from_microseconds(moment_us: int) -> str:
    """Return the RFC 3339 text, with microseconds, of a time since 1970.

    >>> from_microseconds(1000005)
    '1970-01-01T00:00:01.000005Z'
    """
    moment = _EPOCH + timedelta(microseconds=moment_us)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def first_fault(error: ValidationError, nowhere: str = "document") -> str:
    """Return what is wrong first, after where it is; what is wrong as a whole is `nowhere`."""
    first = error.errors(include_url=False, include_input=False)[0]
    where = ".".join(map(str, first["loc"])) or nowhere
    return f"{where}: {first['msg'].removeprefix('Value error, ')}"


_UNITS_S = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_DURATION = re.compile(r"^(\d+(?:\.\d+)?)(us|ms|s|m|h|d)$")
_SHARE = re.compile(r"^(\d+(?:\.\d+)?)%$")


def parse_duration(text: object) -> float:
    """Return seconds of a number with its unit; a bare number is an error.

    >>> parse_duration("1.5m"), parse_duration("200ms")
    (90.0, 0.2)
    """
    match = _DURATION.match(text) if isinstance(text, str) else None
    if match is None:
        msg = "a duration needs its unit: us, ms, s, m, h or d (for example 30s)"
        raise ValueError(msg)
    return float(match[1]) * _UNITS_S[match[2]]


def parse_share(text: object) -> float:
    """Return the fraction that a percentage means.

    >>> parse_share("30%")
    0.3
    """
    match = _SHARE.match(text) if isinstance(text, str) else None
    if match is None:
        msg = "a share needs its unit: % (for example 30%)"
        raise ValueError(msg)
    return float(match[1]) / 100.0


Duration = Annotated[
    float,
    BeforeValidator(parse_duration),
    WithJsonSchema({"type": "string", "pattern": _DURATION.pattern, "examples": ["30s"]}),
]
"""Seconds; written with a unit (``30s``, ``200ms``, ``5m``)."""

Share = Annotated[
    float,
    BeforeValidator(parse_share),
    WithJsonSchema({"type": "string", "pattern": _SHARE.pattern, "examples": ["30%"]}),
]
"""A fraction 0 … 1; written as a percentage (``30%``)."""

Probability = Annotated[float, Field(gt=0.0, lt=1.0)]
"""Strictly between 0 and 1, e.g. 0.9."""

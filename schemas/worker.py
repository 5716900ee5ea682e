"""What workers tell each other: who speaks for which partitions, and what a snapshot consists of.

Source of the shapes: the wire page, "Who may emit" and "Outputs".
"""

from typing import Literal

from pydantic import ConfigDict, Field, RootModel

from schemas.base import Wire

CHUNK_MEDIA_TYPE = "application/zstd"


class LeaseBeat(Wire):
    """A worker lives, and speaks for some partitions (topic ``firstfault.lease.v1``)."""

    v: Literal[1] = 1
    owner: str = Field(description="this start of a worker, e.g. worker-1/4711-1795428000")
    partitions: list[int] = Field(
        default_factory=list, description="it speaks for; none: it only listens"
    )
    follows: list[int] = Field(
        default_factory=list, description="partitions it has recovered: it could speak for them"
    )


class SnapshotChunk(RootModel[bytes]):
    """Some lines of a snapshot, one JSON array each, as one zstd frame; it is no JSON itself."""

    model_config = ConfigDict(json_schema_extra={"contentMediaType": CHUNK_MEDIA_TYPE})


class SnapshotManifest(Wire):
    """The last message of a snapshot: without it, or where it does not fit, there is none."""

    v: Literal[1] = 1
    domain: str = Field(description="e.g. pod-1")
    log_generation: str = Field("0", description="of the log that it is a fold of")
    offset: int = Field(ge=0, description="of the record that comes next")
    rules: str = Field(description="hash of the rule set that was active")
    epoch: int | None = Field(None, description="offset of the claim that counted then")
    first: int = Field(ge=0, description="offset of its first chunk in the topic of snapshots")
    count: int = Field(ge=0, description="chunks")
    sha256: str = Field(description="of all chunks, one after the other")

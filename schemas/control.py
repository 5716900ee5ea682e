"""What all must agree on: which domain is in which partition, and the files of rule sets.

The map of domains is a file that people write, published for all to read.

A domain never changes its partition while a log lives: workers compare epochs, which are offsets of
one partition. A new, empty log has another generation, and may have another map.
"""

from collections import Counter
from functools import cached_property
from typing import Literal

from pydantic import Field, model_validator

from schemas.base import EntityId, Strict, Wire

DOMAINS = "domains"
"""Key of the map in the topic of control."""
DOMAINS_MAX = 10_000
SHARED_MAX = 1_000
RULES = "rules:"
"""What the keys of rule sets in the topic of control begin with, and the target of a command."""
PART_CHARACTERS = 200_000
"""Of the text of a rule set in one message: at 4 bytes each still below a message's limit."""
PARTS_MAX = 40
"""8 MB of text: twenty times the largest pack that is shipped."""
RULE_FILES_MAX = 1_000
"""The largest pack that is shipped has 52."""


class Domain(Strict):
    """One domain: the scope of correlation."""

    name: str = Field(min_length=1, max_length=256, description="e.g. pod-1")
    partition: int = Field(ge=0, description="of the log; several domains may share one")
    topology: str | None = Field(None, description="its topology's file, where the workers run")


class DomainMap(Strict):
    """All domains of a log."""

    log_generation: str = Field("0", min_length=1, description="changes when a log starts anew")
    domains: list[Domain] = Field(min_length=1, max_length=DOMAINS_MAX, description="no two alike")
    shared: list[EntityId] = Field(
        default_factory=list,
        max_length=SHARED_MAX,
        description="what several domains depend on, e.g. link:wan-7: the region judges it",
    )

    @model_validator(mode="after")
    def _names_each_once(self) -> "DomainMap":
        counts = Counter(one.name for one in self.domains)
        twice = [name for name, count in counts.most_common(1) if count > 1]
        if twice:
            msg = f"domains: {twice[0]} stands there twice"
            raise ValueError(msg)
        return self

    @cached_property
    def by_name(self) -> dict[str, Domain]:
        """The domains by their names."""
        return {one.name: one for one in self.domains}

    def in_partition(self, partition: int) -> list[Domain]:
        """Return the domains of a partition."""
        return [one for one in self.domains if one.partition == partition]

    def moved_from(self, before: "DomainMap") -> str | None:
        """Return why this map must not follow another one; None where it may.

        >>> one, other = (
        ...     DomainMap(domains=[Domain(name="pod-1", partition=number)]) for number in (0, 1)
        ... )
        >>> other.moved_from(one)
        'pod-1 is in partition 0, and cannot move to 1 while the log lives'
        """
        if self.log_generation != before.log_generation:
            return None
        for name, was in sorted(before.by_name.items()):
            now = self.by_name.get(name)
            if now is not None and now.partition != was.partition:
                return (
                    f"{name} is in partition {was.partition}, and cannot move to {now.partition} "
                    "while the log lives"
                )
        return None


class RuleFiles(Wire):
    """The files of a pack and of all that it extends, as they were written."""

    v: Literal[1] = 1
    pack: str = Field(description="folder of the pack among the files, e.g. nfvi")
    files: dict[str, str] = Field(
        min_length=1, max_length=RULE_FILES_MAX, description="relative path → text, UTF-8"
    )

    @model_validator(mode="after")
    def _stays_inside(self) -> "RuleFiles":
        for name in (self.pack, *self.files):
            if "\0" in name or {"", ".", ".."} & set(name.split("/")):
                msg = f"{name[:100]}: no path inside a folder"
                raise ValueError(msg)
        return self


class RuleSetPart(Wire):
    """A piece of the text of a rule set's files; its key is ``rules:HASH/PART``."""

    v: Literal[1] = 1
    rules: str = Field(pattern=r"^[0-9a-f]{32}$", description="hash of the rule set")
    part: int = Field(ge=0, lt=PARTS_MAX)
    parts: int = Field(ge=1, le=PARTS_MAX, description="so many make the whole")
    text: str = Field(description="of the JSON of its RuleFiles")

    @property
    def key(self) -> str:
        """The key of its message: the newest of a key is kept, so each part has its own."""
        return f"{RULES}{self.rules}/{self.part}"

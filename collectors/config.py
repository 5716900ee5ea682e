"""What a collector is told to run: the file that a site writes, and which source is which.

Strict: an unknown key is an error. A new source gets a line in `Options` and one in `source_of`.
"""

from functools import partial
from typing import Annotated

from pydantic import Field, field_validator

from collectors.link import LinkOptions, link
from collectors.pulse import PulseOptions, pulse
from collectors.source import Source
from schemas.base import EntityId, Strict, is_entity

Options = Annotated[LinkOptions | PulseOptions, Field(discriminator="source")]


class CollectorConfig(Strict):
    """One collector: who it is, and its sources with their options."""

    observer: EntityId = Field(description="who tells, e.g. collector:compute-3")
    sources: list[Options] = Field(min_length=1, description="no two of the same name")

    @field_validator("sources")
    @classmethod
    def _differ(cls, sources: list[Options]) -> list[Options]:
        names = [one.source for one in sources]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            msg = f"{twice[0]} stands there twice"
            raise ValueError(msg)
        return sources

    def made(self) -> dict[str, Source]:
        """Return the sources, by their names."""
        return {one.source: source_of(one) for one in self.sources}


def source_of(options: LinkOptions | PulseOptions) -> Source:
    """Return a source with its options."""
    match options:
        case LinkOptions():
            return partial(link, options=options)
        case PulseOptions():
            return partial(pulse, options=options)


def of_names(names: list[str], host: str) -> CollectorConfig:
    """Return the collector of a host that runs sources as they come, without options.

    Raises:
        ValueError: there is no such source, or no such host can be.
    """
    if not is_entity(f"collector:{host}"):
        msg = f"{host!r} is no name of a host"
        raise ValueError(msg)
    made: dict[str, LinkOptions | PulseOptions] = {
        "link": LinkOptions(),
        "pulse": PulseOptions(host=f"host:{host}"),
    }
    unknown = [name for name in names if name not in made]
    if unknown:
        msg = f"there is no source {unknown[0]}: there are {', '.join(made)}"
        raise ValueError(msg)
    return CollectorConfig(
        observer=f"collector:{host}", sources=[made[name] for name in dict.fromkeys(names)]
    )

"""The signal catalogue: what collectors may tell, by whom, how late, and when it lies.

One list, `schemas/signals.yaml`: rules name its signals, collectors emit them, and a test
holds the shipped packs to it. A signal names an abnormal condition, ``layer.name``.
"""

from functools import cache
from importlib import resources
from typing import Annotated

from pydantic import Field, model_validator
from ruamel.yaml import YAML

from schemas.base import Duration, Strict

FILE = "signals.yaml"
SignalName = Annotated[str, Field(pattern=r"^[a-z]+(\.[a-z0-9_]+)+$", max_length=64)]
"""``layer.name``, e.g. ``nic.carrier.down``."""
Sentence = Annotated[str, Field(min_length=1)]


class Signal(Strict):
    """One signal; periods and lateness are targets, to be corrected by measurement."""

    text: Sentence = Field(description="the abnormal condition, e.g. the card has no carrier")
    kinds: list[str] = Field(min_length=1, description="entity kinds it is told of, e.g. [nic]")
    producer: Sentence = Field(description="who tells it and by which mechanism")
    period: Duration | None = Field(None, description="how often it is read; none: it is pushed")
    lateness: Duration = Field(description="after the fact, at the latest, e.g. 200ms")
    lies: Sentence = Field(description="when it is wrong, or says something else")


class Catalogue(Strict):
    """All signals, and the layers that their names begin with."""

    layers: dict[str, Sentence] = Field(description="first word of a name → what it is about")
    signals: dict[SignalName, Signal]

    @model_validator(mode="after")
    def _layers_are_known(self) -> "Catalogue":
        unknown = sorted(name for name in self.signals if layer_of(name) not in self.layers)
        if unknown:
            msg = f"no such layer: {', '.join(unknown)}"
            raise ValueError(msg)
        return self


def layer_of(signal: str) -> str:
    """Return the layer that a signal's name begins with.

    >>> layer_of("nic.carrier.down")
    'nic'
    """
    return signal.partition(".")[0]


@cache
def catalogue() -> Catalogue:
    """Return the shipped list, read once.

    >>> catalogue().signals["os.hb.lost"].kinds
    ['host']
    """
    text = resources.files("schemas").joinpath(FILE).read_text(encoding="utf-8")
    return Catalogue.model_validate(YAML(typ="safe").load(text))

"""What an actuator is told to run: the file that a site writes, and which verb is which.

Strict: an unknown key is an error. A new verb gets a line in `Options` and one in `verb_of`.
"""

from functools import partial
from typing import Annotated

from pydantic import Field, field_validator

from actuators.notify import NotifyOptions, notify
from actuators.page import PageOptions, page
from actuators.verb import Verb
from schemas.base import EntityId, Strict

Options = Annotated[NotifyOptions | PageOptions, Field(discriminator="verb")]


class ActuatorConfig(Strict):
    """One actuator: who it is, and its verbs with their options."""

    name: EntityId = Field(description="who signs the results, e.g. actuator:mgmt-1")
    verbs: list[Options] = Field(min_length=1, description="no two of the same name")
    signing_key: str | None = Field(
        None, description="its private key, PEM; the site's key set says what it may confirm"
    )
    stands_on: list[EntityId] = Field(
        default_factory=list, description="entities that are never its targets: its own host"
    )

    @field_validator("verbs")
    @classmethod
    def _differ(cls, verbs: list[Options]) -> list[Options]:
        names = [one.verb for one in verbs]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            msg = f"{twice[0]} stands there twice"
            raise ValueError(msg)
        return verbs

    def made(self) -> dict[str, Verb]:
        """Return the verbs, by their names."""
        return {one.verb: verb_of(one) for one in self.verbs}


def verb_of(options: NotifyOptions | PageOptions) -> Verb:
    """Return a verb with its options."""
    match options:
        case NotifyOptions():
            return partial(notify, options=options)
        case PageOptions():
            return partial(page, options=options)

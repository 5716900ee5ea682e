"""The verb `page`: call a person, by the outlets a site has named for that.

An own verb and not a kind of `notify`: a site pages other people, by other ways, and a page that
did not arrive is the planner's to repeat.
"""

from typing import Literal

from actuators.notify import notify
from actuators.outlets import Outlets
from actuators.verb import Outcome
from schemas.outputs import Action


class PageOptions(Outlets):
    """Options of the verb `page`."""

    verb: Literal["page"] = "page"


async def page(action: Action, *, is_again: bool, options: Outlets) -> Outcome:
    """Call by all outlets; of a call that was cut off nobody can know whom it has reached."""
    return await notify(action, is_again=is_again, options=options)

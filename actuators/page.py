"""The verb `page`: call a person, by the outlets a site has named for that."""

from typing import Literal

from actuators.notify import notify
from actuators.outlets import Outlets
from actuators.verb import Outcome
from schemas.outputs import Action


class PageOptions(Outlets):
    """Options of the verb `page`."""

    verb: Literal["page"] = "page"


async def page(action: Action, *, is_again: bool, options: Outlets) -> Outcome:
    """Call a person; whoever may not have been reached is called once more.

    To be called twice is a nuisance, not to be called is the hazard; the far end knows a repeat by
    its key.
    """
    return await notify(action, is_again=False, options=options)

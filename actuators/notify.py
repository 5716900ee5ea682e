"""The verb `notify`: tell whoever a site has named of an incident, once per update."""

from typing import Literal

from actuators.outlets import Outlets, tell
from actuators.verb import Outcome
from schemas.outputs import Action


class NotifyOptions(Outlets):
    """Options of the verb `notify`."""

    verb: Literal["notify"] = "notify"


async def notify(action: Action, *, is_again: bool, options: Outlets) -> Outcome:
    """Tell by all outlets; of a call that was cut off nobody can know whom it has reached."""
    if is_again:
        return Outcome("UNKNOWN", {"observed_state": "cut off while telling"})
    return await tell(action, options)

"""What a verb is, and what it promises to the runner.

A verb is one async function from an action to how it ended. The runner calls it once per
idempotency key, after all that speaks against the action was asked, and within its time:

1. It does what the action says and nothing else, and only says CONFIRMED of what it has observed.
2. It may be cancelled at any await; then nobody knows how it ended.
3. What it cannot do it says: FAILED where nothing was done, UNKNOWN where nobody can tell.
4. Called with `is_again`, an earlier call was cut off: it finds out how that ended, and acts not.

`tests/actuators/contract.py` puts every verb through these.
"""

from typing import Protocol

from firstfault.consumer.duties import Outcome
from schemas.outputs import Action

__all__ = ["Action", "Outcome", "Verb"]


class Verb(Protocol):
    """See the module."""

    async def __call__(self, action: Action, *, is_again: bool) -> Outcome:
        """Carry out an action, or find out how it ended."""
        ...

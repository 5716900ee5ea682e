"""People who are called: they look, and approve, reject, ask for it again, or do nothing.

They see the world as it is, which nobody else does, and answer after as long as people take.
"""

from dataclasses import dataclass

from schemas.outputs import Action
from tests.simulation.faults import Stage

ANSWER_S = (5.0, 40.0)
IDLE_SHARE = 0.3
RETRY_SHARE = 0.3
"""Of those who find something broken ask for the whole ladder again."""


@dataclass
class Operators:
    """Whoever is on call."""

    stage: Stage

    def paged(self, page: Action) -> None:
        """Have somebody look after a while."""
        if self.stage.rng.random() > IDLE_SHARE:
            wait_s = self.stage.rng.uniform(*ANSWER_S)
            self.stage.kernel.after(wait_s, lambda: self._answer(page))

    def _answer(self, page: Action) -> None:
        """Say yes to what is broken and no to what works."""
        if self._works(page.target):
            self.stage.command("reject", page.incident_id)
        elif self.stage.rng.random() < RETRY_SHARE:
            self.stage.command("retry", page.incident_id)
        else:
            self.stage.command("approve", page.incident_id)

    def _works(self, target: str) -> bool:
        """Claim that nothing is wrong with what somebody was called for."""
        world, (kind, _, rest) = self.stage.world, target.partition(":")
        name = rest.partition("/")[0]
        if kind == "vm":
            return world.serves(name)
        host = world.hosts.get(name)
        return host is not None and host.well_since_us is not None

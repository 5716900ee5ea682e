"""Seeds that found something, and what each has taught. A seed means what it does with this code.

`is_open` says that the engine still does it: the test then expects no success, and the entry is
closed when it passes.
"""

from dataclasses import dataclass

FIXED = tuple(range(2, 12))
"""Worlds that every test run goes through, chosen because they were clean when chosen."""


@dataclass(frozen=True, slots=True)
class Kept:
    """One seed and its lesson."""

    seed: int
    taught: str
    is_open: bool = False


KEPT = (
    Kept(
        12,
        "Management network lost: os.hb.lost{mgmt} and collector.lost are one plane, not two; the "
        "pulses of a collector travel by the management network (H6).",
    ),
    Kept(
        15,
        "Tenant network lost: vs.bfd.down travels by the tenant network, so with os.hb.lost and "
        "peer.reach{tenant} it is still one plane (C06).",
    ),
    Kept(
        27,
        "One liar tells everything of a host; the second source is app.health.bad of an app "
        "elsewhere that only calls one on it, and fails for another reason (I3, H5).",
    ),
    Kept(
        29,
        "The target of a fence is walked anew after its VMs have moved, and then is the host "
        "they moved to: a healthy one is fenced, and then the next.",
    ),
    Kept(
        204,
        "A peer says hw.power.off of a host whose BMC it cannot read, and one VM there crashed: "
        "that is taken for a hard fact and a second source, and a host that is well is fenced.",
    ),
    Kept(
        130,
        "Two hosts of different racks are fenced at the same time; the budget is one (d5).",
    ),
    Kept(
        228,
        "A third host in ten minutes is fenced for its storage: the share of the fleet counts "
        "roots of the kind host, and that root is a group (I5).",
    ),
    Kept(
        221,
        "An incident stands for minutes after all is mended. Likely, not traced: the clock of a "
        "source is set back, so its clears count as older than its raises (H24, I8).",
        is_open=True,
    ),
    Kept(
        587,
        "One liar about a host that had panicked and come back: what was witnessed of its old life "
        "still counts as the second source (I3).",
        is_open=True,
    ),
    Kept(
        73,
        "A host that was kept from its storage must not get it back before the copies that moved "
        "away are ended there; it was the simulated operator who did so (I2).",
    ),
)

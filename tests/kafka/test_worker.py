"""Workers on a real broker: what is done to them loses nothing, and makes nothing up."""

import asyncio

import pytest

from tests.kafka.faults import FAULTS, run


@pytest.mark.parametrize("fault", sorted(FAULTS))
def test_a_fault_loses_nothing_and_makes_nothing_up(fault: str) -> None:
    found = asyncio.run(run(FAULTS[fault], per_s=300))
    assert found.is_right, found
    assert found.inputs > 1_000
    assert found.actions

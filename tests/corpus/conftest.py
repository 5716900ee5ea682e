"""The shipped pack and the scenarios beside this file, read once."""

from pathlib import Path

import pytest

from correlator.rules import RuleSet, load_pack
from correlator.scenarios import Loaded, load_corpus
from firstfault.packs import find_pack


@pytest.fixture(scope="session")
def nfvi() -> RuleSet:
    return load_pack(find_pack("nfvi"))


@pytest.fixture(scope="session")
def corpus(nfvi: RuleSet) -> dict[str, Loaded]:
    return {one.scenario.id: one for one in load_corpus(Path(__file__).parent, nfvi)}

"""Rule packs: YAML with positions → one frozen `RuleSet`, or every fault in it."""

from correlator.rules.load import load_pack, load_with_warnings
from correlator.rules.ruleset import Fault, RuleFaults, RuleSet

__all__ = ["Fault", "RuleFaults", "RuleSet", "load_pack", "load_with_warnings"]

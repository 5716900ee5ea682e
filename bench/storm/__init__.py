"""Generates recordings of data-centre faults: a topology, the storm of events, and the labels.

It decides what physically stops, who can notice and when; it never reads a rule, a signature or
a signal list, so that rules and generator cannot share a mistake. Called by benches, tests and
`python -m bench.storm`. Same arguments give the same bytes under any PYTHONHASHSEED.

Read in this order: `site`, `faults`, `physics` (what stops), `observers` (who notices), `tape`
(what arrives), `recording` (labels and files).

Numbers: `C..` and `d..` in comments name rows and sections of the failure matrix. Outages and
boots are far shorter than in life so that a recording of two minutes holds a recovery.
"""

from bench.storm.faults import FAULT_CLASSES, Fault, FaultKind
from bench.storm.recording import label, write
from bench.storm.site import Site, build
from bench.storm.tape import Noise, storm

__all__ = [
    "FAULT_CLASSES",
    "Fault",
    "FaultKind",
    "Noise",
    "Site",
    "build",
    "label",
    "storm",
    "write",
]

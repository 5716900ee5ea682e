"""Firstfault: finds the first fault behind a storm of alarms.

What a program of yours imports; the other packages are the inside.

>>> from pathlib import Path
>>> playback = open_playback(Path("examples/lag-flap"), rules="generic")
>>> incidents = [s.output for s in playback.outputs() if isinstance(s.output, Incident)]
>>> incidents[0].domain
'lag-flap'
"""

from correlator.importers import TopologyError, load_topology
from correlator.recorded import Record, RecordedError, Recorder, Said, read_record
from correlator.recording import RecordingError, open_recording
from correlator.rules import RuleFaults, RuleSet, load_pack
from correlator.topology import Topology
from firstfault.consumer.consumer import ActionConsumer, Proof
from firstfault.consumer.duties import Outcome
from firstfault.packs import NoSuchPack, find_pack, shipped_packs
from firstfault.playback import Listeners, Moment, Playback, open_playback
from schemas.inputs import Event, Frame, RecordingLine
from schemas.outputs import Action, Cause, DeadLetter, Decision, Evidence, Incident

__all__ = [
    "Action",
    "ActionConsumer",
    "Cause",
    "DeadLetter",
    "Decision",
    "Event",
    "Evidence",
    "Frame",
    "Incident",
    "Listeners",
    "Moment",
    "NoSuchPack",
    "Outcome",
    "Playback",
    "Proof",
    "Record",
    "RecordedError",
    "Recorder",
    "RecordingError",
    "RecordingLine",
    "RuleFaults",
    "RuleSet",
    "Said",
    "Topology",
    "TopologyError",
    "find_pack",
    "load_pack",
    "load_topology",
    "open_playback",
    "open_recording",
    "read_record",
    "shipped_packs",
]

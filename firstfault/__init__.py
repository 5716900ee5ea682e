"""Firstfault: finds the first fault behind a storm of alarms.

What a program of yours imports; the other packages are the inside. Each name is loaded when it is
first asked for: a consumer of actions never loads the engine, and the engine never itself.

>>> from pathlib import Path
>>> from firstfault import Incident, open_playback
>>> playback = open_playback(Path("examples/lag-flap"), rules="generic")
>>> incidents = [s.output for s in playback.outputs() if isinstance(s.output, Incident)]
>>> incidents[0].domain
'lag-flap'
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
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

_HOME = {
    "TopologyError": "correlator.importers",
    "load_topology": "correlator.importers",
    "Record": "correlator.recorded",
    "RecordedError": "correlator.recorded",
    "Recorder": "correlator.recorded",
    "Said": "correlator.recorded",
    "read_record": "correlator.recorded",
    "RecordingError": "correlator.recording",
    "open_recording": "correlator.recording",
    "RuleFaults": "correlator.rules",
    "RuleSet": "correlator.rules",
    "load_pack": "correlator.rules",
    "Topology": "correlator.topology",
    "ActionConsumer": "firstfault.consumer.consumer",
    "Proof": "firstfault.consumer.consumer",
    "Outcome": "firstfault.consumer.duties",
    "NoSuchPack": "firstfault.packs",
    "find_pack": "firstfault.packs",
    "shipped_packs": "firstfault.packs",
    "Listeners": "firstfault.playback",
    "Moment": "firstfault.playback",
    "Playback": "firstfault.playback",
    "open_playback": "firstfault.playback",
    "Event": "schemas.inputs",
    "Frame": "schemas.inputs",
    "RecordingLine": "schemas.inputs",
    "Action": "schemas.outputs",
    "Cause": "schemas.outputs",
    "DeadLetter": "schemas.outputs",
    "Decision": "schemas.outputs",
    "Evidence": "schemas.outputs",
    "Incident": "schemas.outputs",
}
"""Name → module that has it."""


def __getattr__(name: str) -> Any:  # noqa: ANN401 - whatever it is
    home = _HOME.get(name)
    if home is None:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    return getattr(import_module(home), name)


def __dir__() -> list[str]:
    return __all__

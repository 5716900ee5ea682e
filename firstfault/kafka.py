"""What ``--kafka`` names, and the file of domains: read where people wrote them."""

from pathlib import Path

from pydantic import ValidationError

from correlator.rules.yamlfile import read_one
from firstfault.log import LogError
from schemas.base import first_fault
from schemas.control import DomainMap
from schemas.kafka import KafkaSettings


def kafka_settings(text: str) -> KafkaSettings:
    """Return the settings that a text names: a file of them, or a broker's host:port.

    Raises:
        RuleFaults: the file has faults; it carries all of them.
        LogError: it is neither.
    """
    if text.endswith((".yaml", ".yml", ".json")) or Path(text).is_file():
        return read_one(KafkaSettings, Path(text), "the settings of a cluster")
    try:
        return KafkaSettings(bootstrap=text)
    except ValidationError as error:
        msg = f"--kafka {text}: neither host:port nor a file of settings ({first_fault(error)})"
        raise LogError(msg) from None


def read_domain_file(file: Path) -> DomainMap:
    """Return the map of a file; what it says of topologies is taken from where it stands.

    Raises:
        RuleFaults: it has faults; it carries all of them.
    """
    found = read_one(DomainMap, file, "a map of domains")
    folder = file.resolve().parent
    placed = [
        one.model_copy(update={"topology": str(folder / one.topology)}) if one.topology else one
        for one in found.domains
    ]
    return found.model_copy(update={"domains": placed})

"""``firstfault run --region``: judges what several domains of a cluster share."""

from functools import partial

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from correlator.region_worker import RegionHooks, RegionSettings, RegionWorker
from firstfault.log import LogError
from firstfault.log.control import read_domains
from firstfault.log.kafka import KafkaLog
from firstfault.metrics import WorkerMetrics, serve_metrics
from firstfault.on_kafka import Wanted, guarded
from schemas.control import DomainMap
from schemas.kafka import KafkaSettings
from schemas.topics import REGION

APPEND_S = 10.0
"""How long a verdict is tried before it is made anew: it is good for a minute."""


async def serve_region(
    wanted: Wanted, private_key: Ed25519PrivateKey | None, hooks: RegionHooks
) -> dict[str, int]:
    """Judge until a signal, or until its time is over; return what became of the digests.

    Raises:
        LogError: it cannot go on, or nothing is shared.
    """
    log = KafkaLog(wanted.kafka, append_s=APPEND_S)
    made: list[RegionWorker] = []

    async def make() -> RegionWorker:
        domains = _with_shared(wanted.kafka, await read_domains(log))
        settings = RegionSettings(wanted.kafka, domains, wanted.owner, wanted.instance, private_key)
        worker = RegionWorker(settings, log, hooks)
        made.append(worker)
        if wanted.metrics_port is not None:
            serve_metrics(wanted.metrics_port, WorkerMetrics(dict, partial(_digests, worker)))
        return worker

    await guarded(wanted, REGION, [log], make)
    return dict(made[0].counts())


def _digests(worker: RegionWorker) -> dict[str, int]:
    return {f"digests_{what}": count for what, count in worker.counts().items()}


def _with_shared(kafka: KafkaSettings, domains: DomainMap | None) -> DomainMap:
    if domains is not None and domains.shared:
        return domains
    lacking = "no map of domains" if domains is None else "nothing shared in the map of domains"
    msg = (
        f"there is {lacking}: name what several domains depend on under `shared:` in its file, and "
        f"publish it by `firstfault topics create --kafka {kafka.bootstrap} --domains FILE`"
    )
    raise LogError(msg)

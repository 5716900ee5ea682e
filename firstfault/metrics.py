"""What a worker tells Prometheus, read at each scrape: nothing of it is on the way of a record."""

from collections.abc import Callable, Iterable, Mapping

from prometheus_client import start_http_server
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector, CollectorRegistry

from correlator.shell import Shell


class WorkerMetrics(Collector):
    """The partitions of one worker."""

    def __init__(
        self, shells: Callable[[], Mapping[int, Shell]], counts: Callable[[], Mapping[str, int]]
    ) -> None:
        self._shells, self._counts = shells, counts

    def collect(self) -> Iterable[Metric]:
        """See `Collector.collect`."""
        offset = GaugeMetricFamily(
            "firstfault_next_offset", "Of the record that is folded next", labels=["partition"]
        )
        speaks = GaugeMetricFamily(
            "firstfault_speaks", "1 where this worker may emit", labels=["partition"]
        )
        happened = CounterMetricFamily(
            "firstfault_engine", "What the engines counted", labels=["partition", "domain", "what"]
        )
        for number, shell in sorted(self._shells().items()):
            if not shell.is_ready:
                continue
            offset.add_metric([str(number)], shell.partition.next_offset)
            speaks.add_metric([str(number)], int(shell.may_speak))
            for name, live in shell.partition.domains.items():
                for what, count in sorted(live.fold.engine.state.counters.copy().items()):
                    happened.add_metric([str(number), name, what], count)
        yield from (offset, speaks, happened)
        for name, count in self._counts().items():
            yield CounterMetricFamily(f"firstfault_{name}", name.replace("_", " "), value=count)


def serve_metrics(port: int, metrics: WorkerMetrics) -> None:
    """Serve metrics on a port of this machine.

    Raises:
        OSError: the port is taken.
    """
    registry = CollectorRegistry(auto_describe=False)
    registry.register(metrics)
    start_http_server(port, registry=registry)

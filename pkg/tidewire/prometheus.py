"""The loops' numbers for prometheus_client (``pip install tidewire[prometheus]``)::

    import prometheus_client, tidewire.prometheus

    prometheus_client.REGISTRY.register(tidewire.prometheus.Collector())

docs/observability.rst lists the names.
"""
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector as _Collector

from . import _catalogue
from ._stats import Histogram, Stats

_FAMILIES: dict[str, Any] = {"counter": CounterMetricFamily, "gauge": GaugeMetricFamily}


def _buckets(histogram: Histogram) -> list[tuple[str, float]]:
    return [("+Inf" if bound == float("inf") else repr(bound), below)
            for bound, below in _catalogue.coarse(histogram)]


def families(loops: Iterable[tuple[tuple[str, ...], Stats]],
             names: tuple[str, ...] = ("loop",)) -> Iterator[Metric]:
    """Metric families of loops, each with its values of the labels `names`."""
    loops = list(loops)
    for metric in _catalogue.METRICS:
        family = _FAMILIES[metric.kind](metric.name, metric.help,
                                        labels=(*names, *metric.labels))
        for labels, stats in loops:
            for more, value in metric.samples(stats):
                family.add_metric((*labels, *more), value)
        yield family
    for key, (name, _, _, text) in _catalogue.HISTOGRAMS.items():
        family = HistogramMetricFamily(name, text, labels=names)
        for labels, stats in loops:
            histogram: Histogram = stats["histograms"][key]     # type: ignore[literal-required]
            family.add_metric(labels, _buckets(histogram), sum_value=histogram["sum"])
        yield family


class Collector(_Collector):
    """Collects from all loops of this process that are not closed, when it is scraped.

    `loops`, if given, is a function that returns the stats() to show instead.
    """

    def __init__(self, loops: Callable[[], Iterable[Stats]] = _catalogue.snapshot) -> None:
        self._loops = loops

    def collect(self) -> Iterator[Metric]:
        return families(((stats["name"],), stats) for stats in self._loops())

    def describe(self) -> Iterator[Metric]:
        return families([])

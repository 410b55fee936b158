"""The loops' numbers, and spans for slow callbacks, by OpenTelemetry's API
(``pip install tidewire[opentelemetry]``)::

    import tidewire.opentelemetry

    tidewire.opentelemetry.instrument()

The API takes no finished histograms.  So each is shown as a count and a sum (counters), and
as quantiles (gauges) of what was counted between two collections.  docs/observability.rst
lists the names.
"""
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from opentelemetry import metrics, trace
from opentelemetry.metrics import CallbackOptions, Observation

from . import _catalogue
from ._stats import Histogram
from ._version import __version__

if TYPE_CHECKING:
    from ._watch import SlowCallback

QUANTILES = (0.5, 0.9, 0.99, 0.999)

_Callback = Callable[[CallbackOptions], Iterable[Observation]]


def _observe(metric: _catalogue.Metric) -> _Callback:
    def callback(options: CallbackOptions) -> Iterable[Observation]:
        for stats in _catalogue.snapshot():
            for labels, value in metric.samples(stats):
                attributes = dict(zip(metric.labels, labels, strict=True))
                yield Observation(value, {"tidewire.loop": stats["name"], **attributes})
    return callback


def _observe_whole(key: str, what: str) -> _Callback:
    def callback(options: CallbackOptions) -> Iterable[Observation]:
        for stats in _catalogue.snapshot():
            histogram: Any = stats["histograms"][key]   # type: ignore[literal-required]
            yield Observation(histogram[what], {"tidewire.loop": stats["name"]})
    return callback


def _observe_quantiles(key: str) -> _Callback:
    before: dict[int, Histogram] = {}       # by the loop's number: at the last collection

    def callback(options: CallbackOptions) -> Iterable[Observation]:
        for stats in _catalogue.snapshot():
            now: Histogram = stats["histograms"][key]   # type: ignore[literal-required]
            new = _catalogue.difference(now, before.get(stats["id"]))
            before[stats["id"]] = now
            for share in QUANTILES:
                yield Observation(_catalogue.quantile(new, share), {
                    "tidewire.loop": stats["name"], "quantile": share})
    return callback


def instrument(meter_provider: metrics.MeterProvider | None = None) -> None:
    """Make the instruments, with the global provider of meters if none is given.

    Call it once.  The loops are asked when the provider's readers collect.
    """
    meter = metrics.get_meter("tidewire", __version__, meter_provider)
    for metric in _catalogue.METRICS:
        make = (meter.create_observable_counter if metric.kind == "counter"
                else meter.create_observable_gauge)
        make(metric.otel, [_observe(metric)], metric.unit, metric.help)
    for key, (_, name, unit, text) in _catalogue.HISTOGRAMS.items():
        meter.create_observable_counter(f"{name}.count", [_observe_whole(key, "count")],
                                        "{value}", f"{text} How many.")
        meter.create_observable_counter(f"{name}.sum", [_observe_whole(key, "sum")],
                                        unit, f"{text} The sum.")
        meter.create_observable_gauge(f"{name}.quantile", [_observe_quantiles(key)],
                                      unit, f"{text} Quantiles since the last collection.")


def slow_callback_spans(
        tracer_provider: trace.TracerProvider | None = None) -> Callable[["SlowCallback"], None]:
    """A handler for `tidewire.watch()`: a span for each slow callback that has returned.

    The span begins and ends when the callback did.
    """
    tracer = trace.get_tracer("tidewire", __version__, tracer_provider)

    def handler(report: "SlowCallback") -> None:
        import time

        if not report.returned:
            return
        ended = time.time_ns()
        attributes: dict[str, Any] = {
            "tidewire.loop": report.loop, "tidewire.callback": report.callback,
            "tidewire.state": report.state, "tidewire.cpu_time": report.cpu_seconds,
            "tidewire.task": report.task, "code.file.path": report.file,
            "code.line.number": report.line, "code.function.name": report.function,
        }
        span = tracer.start_span(
            "slow callback", start_time=ended - int(report.seconds * 1e9),
            attributes={key: value for key, value in attributes.items() if value is not None})
        span.end(ended)

    return handler

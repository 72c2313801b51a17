"""What the bot counts for Prometheus beside its engines: what was asked of it and how that ended, over HTTP and by any plugin.

Numbers only: no text, no actor, no ticket. Every registry holds its own series.
"""

from typing import Final, Literal

from prometheus_client import CollectorRegistry, Counter, GCCollector, Histogram, PlatformCollector, ProcessCollector
from starlette.types import ASGIApp, Message, Receive, Scope, Send

Verb = Literal["classify", "summarize"]
Ending = Literal["answered", "repeated", "withheld", "empty", "paused", "refused", "failed"]

_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_SECONDS: Final = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0)


def build_registry() -> CollectorRegistry:
    """Return a registry that holds what the process says of itself (memory, CPU, garbage)."""
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    GCCollector(registry=registry)
    return registry


class BotMetrics:
    """Requests of plugins by how they ended, and what people did with suggestions."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._requests = Counter(
            "understudy_requests",
            "Tickets classified or summarised: answered, repeated (an earlier answer), withheld, empty, paused, refused, failed.",
            ("verb", "outcome"),
            registry=registry,
        )
        self._seconds = Histogram(
            "understudy_request_seconds",
            "Time of a request that was answered, masking and database included.",
            ("verb",),
            buckets=_SECONDS,
            registry=registry,
        )
        self._feedback = Counter("understudy_feedback", "Feedback that counted as new, by kind.", ("kind",), registry=registry)

        self._answers = Counter(
            "understudy_http_requests", "HTTP requests answered.", ("method", "route", "status"), registry=registry
        )

    @classmethod
    def alone(cls) -> "BotMetrics":
        """Return metrics that nobody reads."""
        return cls(CollectorRegistry())

    def count_request(self, verb: Verb, outcome: Ending, *, seconds: float) -> None:
        """Count a request by how it ended."""
        self._requests.labels(verb, outcome).inc()
        if outcome == "answered":
            self._seconds.labels(verb).observe(seconds)

    def count_answer(self, method: str, route: str, *, status: int) -> None:
        """Count an HTTP answer. `route` must be a template or one of few names."""
        self._answers.labels(method if method in _METHODS else "other", route, str(status)).inc()

    def count_feedback(self, kind: str) -> None:
        """Count a feedback that was recorded for the first time."""
        self._feedback.labels(kind).inc()


class HttpCounter:
    """Counts HTTP answers by method, route and status. Routes are templates, so the number of series stays small."""

    def __init__(self, app: ASGIApp, *, metrics: BotMetrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on and count its answer."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def count(message: Message) -> None:
            if message["type"] == "http.response.start":
                route = getattr(scope.get("route"), "path", "other")
                self._metrics.count_answer(scope["method"], route, status=message["status"])
            await send(message)

        await self._app(scope, receive, count)

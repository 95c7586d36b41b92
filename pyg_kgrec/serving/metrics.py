"""What a service counts, in the form that Prometheus reads."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from pyg_kgrec.serving.served import Served

_BUCKETS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)


class Metrics:
    """Requests, their seconds, reloads, and what is served; of one app, whatever else the process counts."""

    content_type = CONTENT_TYPE_LATEST

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "pyg_kgrec_requests", "Requests by route and status.", ["route", "status"], registry=self.registry
        )
        self.seconds = Histogram(
            "pyg_kgrec_request_seconds", "Seconds from a request's head to the end of its answer.", ["route"],
            buckets=_BUCKETS, registry=self.registry,
        )  # fmt: skip
        self.in_work = Gauge("pyg_kgrec_requests_in_work", "Requests in work.", registry=self.registry)
        self.reloads = Counter(
            "pyg_kgrec_reloads", "Reloads by their end.", ["result"], registry=self.registry
        )
        self._served = Gauge(
            "pyg_kgrec_served",
            "1 for the model that answers.",
            ["model", "generation"],
            registry=self.registry,
        )
        self.generation = Gauge("pyg_kgrec_generation", "Generation that answers.", registry=self.registry)
        self.users = Gauge("pyg_kgrec_users", "Users of the store.", registry=self.registry)
        self.items = Gauge("pyg_kgrec_items", "Items of the store.", registry=self.registry)
        for result in ("ok", "failed"):
            self.reloads.labels(result)

    def serve(self, served: Served) -> None:
        """Takes note of what answers from now on."""
        self._served.clear()
        self._served.labels(served.name, str(served.generation)).set(1)
        self.generation.set(served.generation)
        self.users.set(served.inputs.num_users)
        self.items.set(served.inputs.num_items)

    def text(self) -> bytes:
        """All of it as text."""
        return generate_latest(self.registry)

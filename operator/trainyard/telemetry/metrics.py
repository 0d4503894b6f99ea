"""Prometheus metrics, named as controller-runtime names its own so that existing dashboards fit."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

REGISTRY = CollectorRegistry()

RECONCILES = Counter(
    "trainyard_reconcile_total",
    "Reconciles by kind and result (success, requeue, error).",
    ["kind", "result"],
    registry=REGISTRY,
)
RECONCILE_SECONDS = Histogram(
    "trainyard_reconcile_time_seconds", "Seconds that one reconcile took.", ["kind"], registry=REGISTRY
)
QUEUE_DEPTH = Gauge("trainyard_workqueue_depth", "Keys that are due and wait for a worker.", registry=REGISTRY)
ACTIVE = Gauge("trainyard_active_workers", "Keys that are being worked on.", registry=REGISTRY)
DEADLINES = Gauge("trainyard_deadlines", "Keys that have a wake-up time.", registry=REGISTRY)
WRITES = Counter(
    "trainyard_kubernetes_writes_total", "Writes to the API server by what is written.", ["what"], registry=REGISTRY
)
PLATFORM_CALLS = Counter(
    "trainyard_platform_calls_total",
    "Calls of a platform's adapter by platform, call and result.",
    ["platform", "call", "result"],
    registry=REGISTRY,
)

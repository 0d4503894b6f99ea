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
GIT_SECONDS = Histogram(
    "trainyard_git_fetch_time_seconds",
    "Seconds until the source of a run was there, or not, by result (ok or the error's reason).",
    ["result"],
    buckets=(0.1, 0.5, 1, 2, 5, 10, 20, 60, 120),
    registry=REGISTRY,
)
PREFLIGHT = Counter(
    "trainyard_preflight_findings_total",
    "What checks before a submission found, by outcome (Passed, Missing, Unknown).",
    ["outcome"],
    registry=REGISTRY,
)
LOGS = Counter(
    "trainyard_logs_total",
    "Logs of tasks and attempts, by where they are kept (object, destination) and result (kept, failed).",
    ["where", "result"],
    registry=REGISTRY,
)
UPLOADS_REMOVED = Counter(
    "trainyard_uploads_removed_total",
    "Folders of uploaded code removed after their runs had finished.",
    registry=REGISTRY,
)

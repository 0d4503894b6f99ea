"""Trainyard from Python: start a run, wait for it, read what it left. For notebooks, tasks and the command line.

`from trainyard.client import Trainyard`. Speaks to the Kubernetes API server only, with the caller's own rights there;
holds no credential of a platform. Imports neither kopf nor a platform's SDK.
"""

from trainyard.client.errors import (
    BadManifest,
    ClientError,
    NotAllowed,
    NotFound,
    Problem,
    Refused,
    RunCancelled,
    RunEnded,
    RunFailed,
    RunStalled,
    RunTimedOut,
    Unreachable,
    WaitTimedOut,
)
from trainyard.client.run import Event, Run, RunLog
from trainyard.client.trainyard import Trainyard

__all__ = [
    "BadManifest",
    "ClientError",
    "Event",
    "NotAllowed",
    "NotFound",
    "Problem",
    "Refused",
    "Run",
    "RunCancelled",
    "RunEnded",
    "RunFailed",
    "RunLog",
    "RunStalled",
    "RunTimedOut",
    "Trainyard",
    "Unreachable",
    "WaitTimedOut",
]

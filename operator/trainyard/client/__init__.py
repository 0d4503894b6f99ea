"""Trainyard from Python: train, read what a run left, serve a model. For notebooks, tasks and the command line.

`from trainyard.client import Trainyard`. Speaks to the Kubernetes API server only, with the caller's own rights there;
holds no credential of a platform and imports no SDK of one, until rows are scored, which the caller does as himself.
"""

from trainyard.client.deployment import Deployment
from trainyard.client.errors import (
    BadManifest,
    ClientError,
    DeploymentFailed,
    DeploymentStalled,
    NotAllowed,
    NotFound,
    NothingToPromote,
    Problem,
    Refused,
    RunCancelled,
    RunEnded,
    RunFailed,
    RunStalled,
    RunTimedOut,
    ScoringFailed,
    Unreachable,
    WaitTimedOut,
)
from trainyard.client.run import Event, Run, RunLog
from trainyard.client.scoring.score import Scores
from trainyard.client.trainyard import Trainyard

__all__ = [
    "BadManifest",
    "ClientError",
    "Deployment",
    "DeploymentFailed",
    "DeploymentStalled",
    "Event",
    "NotAllowed",
    "NotFound",
    "NothingToPromote",
    "Problem",
    "Refused",
    "Run",
    "RunCancelled",
    "RunEnded",
    "RunFailed",
    "RunLog",
    "RunStalled",
    "RunTimedOut",
    "Scores",
    "ScoringFailed",
    "Trainyard",
    "Unreachable",
    "WaitTimedOut",
]

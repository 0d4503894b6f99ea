"""Asks a rollout's checks: scores rows at the new models, reads what the platform measured, and the run's metrics.

Called by the controller of deployments. What may come and go is Waiting for a while before it counts as Failed; since
when, is kept in memory only.
"""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from trainyard.api.deployment_rollout import RunMetric
from trainyard.api.deployment_status import CheckResult, Serving
from trainyard.controllers import serving_verdicts as verdicts
from trainyard.controllers.kube import RUN
from trainyard.controllers.serving_snapshots import run_status
from trainyard.controllers.serving_verdicts import Judged, Silence
from trainyard.controllers.sessions import Session
from trainyard.controllers.store import Key, Store
from trainyard.core.errors import Throttled, Unreachable
from trainyard.core.serving.actions import AskChecks
from trainyard.core.serving.seen import Checked, Scored
from trainyard.core.serving.snapshot import DeploymentSnapshot
from trainyard.core.transition import clip
from trainyard.platforms.serving import REACH_SECONDS, SCORE_SECONDS, Endpoints

# A route or a right that has just been made is known everywhere after a minute or so; a server that starts from nothing
# needs longer than one request waits.
PATIENCE = timedelta(seconds=120)
DEFAULT_WITHIN = 60


class ServingChecks:
    """Asks, and remembers since when something has been asked in vain. To be used from one event loop."""

    def __init__(self, store: Store, clock: Callable[[], datetime]) -> None:
        self._store = store
        self._now = clock
        self._in_vain: dict[str, dict[tuple[str, str, str], datetime]] = {}  # by uid; then moment, served, check

    async def of(
        self, deployment: DeploymentSnapshot, session: Session, endpoints: Endpoints, action: AskChecks
    ) -> Checked:
        """A result for each check and served model, Answers always among them. Raises the errors of `core.errors`."""
        asked = [self._one(deployment, session, endpoints, action, served) for served in action.served]
        found = {each: judged for one in await asyncio.gather(*asked) for each, judged in one.items()}
        uid, moment = deployment.uid, action.moment
        results = [self._result(uid, moment, served, check, judged) for (check, served), judged in found.items()]
        known = {key: since for key, since in self._in_vain.get(uid, {}).items() if key[0] == moment}
        self._in_vain[uid] = known
        untold = {
            (check, served): known[moment, served, check] for (check, served), judged in found.items() if judged.untold
        }
        return Checked(moment, tuple(results), self._now(), untold)

    def forget(self, uid: str) -> None:
        """Drops what is remembered of a deployment."""
        self._in_vain.pop(uid, None)

    async def _one(
        self,
        deployment: DeploymentSnapshot,
        session: Session,
        endpoints: Endpoints,
        action: AskChecks,
        served: Serving,
    ) -> dict[tuple[str, str], Judged]:
        """What each check found, by check and served model."""
        found: dict[str, Judged] = {}
        checks, endpoint = action.checks, action.plan.endpoint
        rows = checks.smoke.rows if checks.smoke is not None else []
        within = (checks.smoke.within_seconds if checks.smoke is not None else None) or DEFAULT_WITHIN
        scored = await session.call(
            "score", _asked, endpoints, endpoint, served.served, rows, float(within), deadline=SCORE_SECONDS
        )
        found["Answers"] = verdicts.answers(scored)
        if checks.smoke is not None:
            cold = bool(served.scale_to_zero)
            found["Smoke"] = verdicts.smoke(checks.smoke, scored, seconds=within, may_be_cold=cold)
        if checks.bounds is not None:
            percentile = checks.bounds.percentile or verdicts.DEFAULT_PERCENTILE
            measured = await session.call(
                "measured",
                endpoints.measured,
                endpoint,
                served.served,
                action.since,
                percentile,
                deadline=REACH_SECONDS,
            )
            found["Bounds"] = verdicts.bounds(checks.bounds, measured)
        if checks.run_metric is not None:
            found["RunMetric"] = self._metric(deployment, served, checks.run_metric)
        return {(check, served.served): judged for check, judged in found.items()}

    def _result(self, uid: str, moment: str, served: str, check: str, verdict: Judged) -> CheckResult:
        outcome = verdict.outcome
        key = (moment, served, check)
        known = self._in_vain.setdefault(uid, {})
        if not verdict.passing and not verdict.untold:
            known.pop(key, None)
        elif self._now() - known.setdefault(key, self._now()) < PATIENCE:
            outcome = "Waiting"
        return CheckResult(check=check, served=served, outcome=outcome, message=clip(verdict.message))

    def _metric(self, deployment: DeploymentSnapshot, served: Serving, wanted: RunMetric) -> Judged:
        origin = served.origin
        if origin is None or origin.run is None:
            message = (
                f"{served.model}:{served.version} was made by no MLTrainingRun that is known: serve the model of a "
                "run, or remove checks.runMetric"
            )
            return Judged("Failed", message)
        run = self._store.get(Key(RUN.name, deployment.namespace, origin.run))
        if run is not None and (origin.uid is None or run["metadata"]["uid"] == origin.uid):
            return verdicts.metric(wanted, origin.run, run_status(run).metrics)
        noted = _noted(deployment, served.served, wanted)
        if noted is not None:
            return Judged("Passed", noted)
        message = f"MLTrainingRun {origin.run} is gone, so its metrics can not be read: remove checks.runMetric"
        return Judged("Failed", message)


def _noted(deployment: DeploymentSnapshot, served: str, wanted: RunMetric) -> str | None:
    """What an earlier check of this rollout said when it found the metric good: a run that has ended changes none."""
    earlier: Sequence[CheckResult] = deployment.status.rollout.checks if deployment.status.rollout is not None else ()
    for result in earlier:
        same = (result.check, result.served, result.outcome) == ("RunMetric", served, "Passed")
        if same and verdicts.metric_noted(wanted, result.message):
            return result.message
    return None


def _asked(
    endpoints: Endpoints, endpoint: str, served: str, rows: list[Mapping[str, Any]], seconds: float
) -> Scored | Silence:
    """One request, in a lane's thread. That a model does not answer says nothing about its platform's API."""
    began = time.monotonic()
    try:
        return endpoints.score(endpoint, served, rows, seconds=seconds)
    except Throttled:
        raise
    except Unreachable as error:
        return Silence(error.message, in_time=time.monotonic() - began < seconds)

"""Managed online endpoints of one Azure ML workspace: the Endpoints of `platforms.serving`.

Made by `connection`, called in a lane's thread. Each call looks anew and asks for one change at most; the service
answers a change before it has done it, and is never waited for (docs/decisions/0021): the next look says. What is sent
is decided by `serving_steps`, what is seen is told by `serving_states`, both pure. Versions of the API: those whose
deployments have a dataCollector (2024-04-01) for both, of which the published examples have the same fields.
"""

import re
import threading
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote, urlencode

from trainyard.api.deployment_status import LOG_CHARACTERS
from trainyard.core.errors import Denied, Missing, Refused, Unreachable
from trainyard.core.remote import Finding
from trainyard.core.serving.plans import plan_digest
from trainyard.core.serving.seen import Measured, Reached, RemoteEndpoint, ResolvedModel, Scored
from trainyard.platforms.azureml import needs, preflight, serving_metrics
from trainyard.platforms.azureml.client import AzureMLClient
from trainyard.platforms.azureml.history import WORKSPACE_VERSION, History
from trainyard.platforms.azureml.machines import Machines
from trainyard.platforms.azureml.rights import Rights
from trainyard.platforms.azureml.serving_kept import as_seen
from trainyard.platforms.azureml.serving_models import Models
from trainyard.platforms.azureml.serving_quota import ServingQuota
from trainyard.platforms.azureml.serving_scoring import SHORTEST, Scoring
from trainyard.platforms.azureml.serving_states import endpoint_of, operation_of, permission_status, reason_of
from trainyard.platforms.azureml.serving_steps import (
    BROKEN,
    NOTHING,
    Change,
    Desired,
    Memory,
    Seen,
    differences,
    is_ours,
    letting_go,
    next_request,
    state_of,
)
from trainyard.platforms.base import Need
from trainyard.platforms.readable import readable
from trainyard.platforms.redaction import clean
from trainyard.platforms.serving import SCORE_SECONDS, EndpointRequest
from trainyard.platforms.serving_names import refuse_adoption
from trainyard.platforms.verdicts import Check, Found

VERSION = "2024-04-01"
# Seconds from the beginning of a call after which its change is not sent any more; the last request may take 30.
SEND_WITHIN = 25.0
SCORE_MARGIN = 5.0
LOG_LINES = 200
# Looks that may fail for want of the reason why something failed; then it is told without.
WHY_TRIES = 3
MOST_IN_VAIN = 256
# "Specified deployment [X] failed during initial provisioning and is in an unrecoverable state. Delete and re-create."
_UNRECOVERABLE = re.compile(r"unrecoverable state", re.IGNORECASE)
CONTAINERS = ("StorageInitializer", "InferenceServer")


class AzureMLEndpoints:
    """The endpoints of one workspace as one principal.

    Args:
        client: the workspace.
        history: its services, for the registry of models.
        scoring: asks endpoints.
    """

    def __init__(self, client: AzureMLClient, history: History, scoring: Scoring) -> None:
        self._client = client
        self._scoring = scoring
        self._models = Models(client, history)
        self._lock = threading.Lock()
        self._location: str | None = None
        # What was told to have failed, by endpoint: under which plan, and which. Lost in a restart, told once more.
        self._told: dict[str, tuple[str, Memory]] = {}
        # How often an operation was asked in vain why it failed, by its URL.
        self._in_vain: dict[str, int] = {}

    @readable
    def resolve(self, model: str, *, version: str | None = None, alias: str | None = None) -> ResolvedModel:
        """See `platforms.serving.Endpoints`. An alias is the tag `alias` of a version (`mlflow_runs`)."""
        return self._models.resolve(model, version, alias)

    @readable
    def preflight(self, request: EndpointRequest) -> tuple[Finding, ...]:
        """See `platforms.serving.Endpoints`."""
        rights = Rights(self._client)
        quota = ServingQuota(
            Machines(self._client, {}),
            request.body["deployments"],
            lambda: self._deployments(request.plan.endpoint),
        )
        checks: Mapping[str, Check] = {
            needs.WORKSPACE: lambda need: self._right(rights, need),
            needs.SERVED_MODEL: self._models.servable,
            needs.SERVING_QUOTA: quota.check,
        }
        return preflight.looked_at(request.needs, checks)

    @readable
    def reach(self, request: EndpointRequest, *, change: bool) -> Reached:
        """See `platforms.serving.Endpoints`."""
        until = self._client.clock() + SEND_WITHIN
        plan = request.plan
        seen, at = self._look(plan.endpoint), datetime.now(UTC)
        if seen.endpoint is not None and not is_ours(seen.endpoint, plan.owner.uid):
            refuse_adoption(plan, seen.endpoint.get("tags") or {})
        desired = Desired(
            uid=plan.owner.uid,
            adopt=plan.adopt,
            endpoint=request.body["endpoint"],
            deployments=as_seen(seen, request),
            traffic=plan.traffic,
            workspace=self._client.workspace.path,
            classes={each.served: each.compute_class for each in plan.served},
        )
        lacks, digest = differences(seen, desired), plan_digest(plan)
        memory = self._remembered(plan.endpoint, digest, seen)
        step = next_request(seen, desired, memory) if change and lacks else None
        if step is not None and not self._send(plan.endpoint, step, until):
            step = next_request(seen, desired, replace(memory, lost=self._lose(plan.endpoint, step)))
            if step is not None:
                self._send(plan.endpoint, step, until)
        return Reached(digest, self._remote(request, seen), lacks, step.said if step is not None else None, at)

    @readable
    def score(self, endpoint: str, served: str | None, rows: list[Mapping[str, Any]], *, seconds: float) -> Scored:
        """See `platforms.serving.Endpoints`. Whatever has to be asked before counts as well."""
        until = self._client.clock() + SCORE_SECONDS - SCORE_MARGIN
        properties = self._client.do("GET", _path(endpoint), VERSION).get("properties") or {}
        uri = str(properties.get("scoringUri") or "")
        if not uri:
            raise Unreachable(f"endpoint {endpoint} does not say yet where it is asked")
        key = self._key(endpoint, str(properties.get("authMode") or ""))
        left = max(until - self._client.clock(), SHORTEST)
        return self._scoring.ask(endpoint, uri, served, rows, key, seconds=min(seconds, left))

    @readable
    def measured(self, endpoint: str, served: str, since: datetime, percentile: int) -> Measured:
        """See `platforms.serving.Endpoints`. Raises Denied without the right to read metrics (Monitoring Reader)."""
        counted, timed = serving_metrics.queries(served, since, datetime.now(UTC), percentile)
        path = _path(endpoint) + serving_metrics.PATH
        answers = [self._client.do("GET", path, serving_metrics.VERSION, query=query) for query in (counted, timed)]
        return serving_metrics.measured_of(*answers)

    @readable
    def logs(self, endpoint: str, served: str) -> str:
        """See `platforms.serving.Endpoints`. What brought its files comes first, what its server printed last."""
        texts = (self._log(endpoint, served, container) for container in CONTAINERS)
        return "\n".join(text for text in texts if text)[-LOG_CHARACTERS:]

    @readable
    def delete(self, endpoint: str, uid: str) -> bool:
        """See `platforms.serving.Endpoints`. Its deployments go with it; what still serves as it did before it was
        taken over is given back, one change at a call.
        """
        there = self._endpoint(endpoint)
        if there is None or not is_ours(there, uid):
            return False
        if state_of(there) != "Deleting":
            seen = Seen(there, self._deployments(endpoint))
            step = letting_go(seen, uid) or Change("DELETE", "", None, "delete the endpoint")
            try:
                body = None if step.body is None else {"location": self._region(), **step.body}
                self._client.do(step.method, _path(endpoint) + step.path, VERSION, body=body)
            except Missing:
                return step.path != ""
        return True

    @readable
    def exists(self, endpoint: str, uid: str | None) -> bool:
        """See `platforms.serving.Endpoints`."""
        there = self._endpoint(endpoint)
        return there is not None and (uid is None or is_ours(there, uid))

    def _look(self, endpoint: str) -> Seen:
        there = self._endpoint(endpoint)
        return Seen(there, self._deployments(endpoint) if there is not None else {})

    def _endpoint(self, endpoint: str) -> dict[str, Any] | None:
        try:
            return self._client.do("GET", _path(endpoint), VERSION)
        except Missing:
            return None

    def _deployments(self, endpoint: str) -> dict[str, dict[str, Any]]:
        try:
            pages = list(self._client.pages(f"{_path(endpoint)}/deployments", VERSION))
        except Missing:
            return {}
        return {str(row["name"]): row for page in pages for row in page if row.get("name")}

    def _remembered(self, endpoint: str, digest: str, seen: Seen) -> Memory:
        """What failed and was told to have under this very plan, and what of it is lost."""
        failed = {name for name, each in seen.deployments.items() if state_of(each) in BROKEN}
        if seen.endpoint is not None and state_of(seen.endpoint) in BROKEN:
            failed.add("")
        with self._lock:
            plan, before = self._told.pop(endpoint, ("", NOTHING))
            memory = Memory(before.told & failed if plan == digest else frozenset(), before.lost & failed)
            if failed:
                self._told[endpoint] = (digest, Memory(frozenset(failed), memory.lost))
        return memory

    def _lose(self, endpoint: str, step: Change) -> frozenset[str]:
        """Remembers that a deployment can not be mended; all of which that is known."""
        with self._lock:
            plan, memory = self._told.get(endpoint, ("", NOTHING))
            lost = memory.lost | {step.path.rpartition("/")[2]}
            self._told[endpoint] = (plan, replace(memory, lost=lost))
        return lost

    def _send(self, endpoint: str, step: Change, until: float) -> bool:
        """Asks for the change; False: the service says that the deployment has to be made anew for it."""
        body = None if step.body is None else {"location": self._region(), **step.body}
        path = _path(endpoint) + step.path
        try:
            self._client.do(step.method, path, VERSION, body=body, until=until)
        except Missing as error:
            if step.method != "DELETE":
                # What is to hold it went away between the look and now.
                raise Unreachable(error.message) from error
        except Refused as error:
            if not step.path or not _UNRECOVERABLE.search(error.message):
                raise
            return False
        return True

    def _region(self) -> str:
        """The workspace's region, which its endpoints are in."""
        with self._lock:
            found = self._location
        if found is None:
            found = str(self._client.do("GET", "", WORKSPACE_VERSION).get("location") or "")
            if not found:
                raise Unreachable("the workspace does not say which region it is in", reason="PlatformAnswerMalformed")
            with self._lock:
                self._location = found
        return found

    def _why(self, resource: Mapping[str, Any]) -> str:
        """Why the last operation on it failed, as far as this identity is told.

        Raises Unreachable where that is not to be had now, but not again and again: what failed costs until it is seen.
        """
        url = operation_of(resource)
        if not url:
            return ""
        try:
            found = clean(reason_of(self._client.operation(url)))
        except (Denied, Missing, Refused):
            found = ""
        except Unreachable:
            with self._lock:
                tries = self._in_vain.pop(url, 0) + 1
                self._in_vain[url] = tries
                while len(self._in_vain) > MOST_IN_VAIN:
                    del self._in_vain[next(iter(self._in_vain))]
            if tries < WHY_TRIES:
                raise
            return ""
        with self._lock:
            self._in_vain.pop(url, None)
        return found

    def _remote(self, request: EndpointRequest, seen: Seen) -> RemoteEndpoint | None:
        plan, client = request.plan, self._client
        scope = f"{client.workspace.path}{_path(plan.endpoint)}"
        query = urlencode(
            {"wsid": client.workspace.path, **({"tid": client.tenant} if client.tenant else {})}, safe="/"
        )
        resources = {"": seen.endpoint or {}, **seen.deployments}
        return endpoint_of(
            seen,
            plan.owner.uid,
            page=f"{client.cloud.studio}/endpoints/realtime/{quote(plan.endpoint, safe='')}/detail?{query}"[:1024],
            permissions=[permission_status(each, scope) for each in plan.permissions],
            why={name: self._why(each) for name, each in resources.items() if state_of(each) in BROKEN},
        )

    def _right(self, rights: Rights, need: Need) -> Found:
        """Who needs it is whoever looks: a plan does not know."""
        return rights.action(Need(need.kind, need.name, need.right, self._client.principal, need.field))

    def _key(self, endpoint: str, auth: str) -> str | None:
        """What an endpoint that takes no token of ours is asked with; kept by nobody."""
        verb, field = {"key": ("listKeys", "primaryKey"), "amltoken": ("token", "accessToken")}.get(
            auth.lower(), ("", "")
        )
        if not verb:
            return None
        found = str(self._client.do("POST", f"{_path(endpoint)}/{verb}", VERSION).get(field) or "")
        if not found:
            raise Unreachable(f"endpoint {endpoint} gives no key", reason="PlatformAnswerMalformed")
        return found

    def _log(self, endpoint: str, served: str, container: str) -> str:
        body = {"containerType": container, "tail": LOG_LINES}
        path = f"{_path(endpoint)}/deployments/{quote(served, safe='')}/getLogs"
        try:
            return clean(str(self._client.do("POST", path, VERSION, body=body).get("content") or "")).strip()
        except (Missing, Refused):
            # Neither started yet nor kept any more.
            return ""


def _path(endpoint: str) -> str:
    return f"/onlineEndpoints/{quote(endpoint, safe='')}"

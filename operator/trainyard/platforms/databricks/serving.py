"""The endpoints of one Databricks workspace as one principal: the Endpoints of `platforms.serving`.

Made by `connection`; called in a lane's threads. What to ask for is found by serving_steps from what was seen, so that
a crash between any two requests changes nothing. What is remembered here only spares questions. Paths: databricks-sdk
service/serving.py; a served model is asked alone at .../served-models/NAME/invocations (https://docs.databricks.com/
machine-learning/model-serving/serve-multiple-models-to-serving-endpoint.html, "Query individual models").
"""

import json
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

import requests

from trainyard.api.deployment_status import LOG_CHARACTERS
from trainyard.audit.transport import Answer
from trainyard.core.errors import Denied, Missing, PlatformError, Refused, TrainyardError, Unreachable
from trainyard.core.remote import Finding
from trainyard.core.serving.plans import plan_digest
from trainyard.core.serving.seen import Measured, Reached, RemoteEndpoint, ResolvedModel, Scored
from trainyard.platforms.databricks import needs, preflight, remedies, serving_models
from trainyard.platforms.databricks import serving_permissions as permissions
from trainyard.platforms.databricks.answers import ALREADY_EXISTS, DatabricksDialect
from trainyard.platforms.databricks.client import DatabricksClient
from trainyard.platforms.databricks.serving_metrics import WINDOW, Windows, windows_of
from trainyard.platforms.databricks.serving_states import endpoint_of, tags_of
from trainyard.platforms.databricks.serving_steps import (
    ENDPOINTS,
    PERMISSIONS,
    Seen,
    Step,
    as_seen,
    differences,
    failed_with_plan,
    letting_go,
    needs_permissions,
    next_request,
    removable,
)
from trainyard.platforms.databricks.serving_translate import TAG_UID
from trainyard.platforms.limits import PlatformBusy
from trainyard.platforms.readable import readable
from trainyard.platforms.redaction import clean
from trainyard.platforms.serving import EndpointRequest
from trainyard.platforms.serving_names import refuse_adoption

METRICS_SECONDS = 20.0
# Seconds from the beginning of a look after which its change is not sent any more: whoever asked may have given up, and
# have the endpoint deleted. The last request may take 30.
SEND_WITHIN = 25.0
# Characters of an answer that are shown, and of the log of a build that stand before that of the server.
SHOWN = 500
BUILD_CHARACTERS = 3000


class DatabricksEndpoints:
    """Endpoints through one client.

    Args:
        host: the workspace's origin.
    """

    def __init__(self, client: DatabricksClient, host: str, principal: str) -> None:
        self._client = client
        self._host = host
        self._principal = principal
        self._windows = Windows()
        # The configuration that this process last sent, by endpoint.
        self._sent: dict[str, Mapping[str, Any]] = {}

    @readable
    def resolve(self, model: str, *, version: str | None = None, alias: str | None = None) -> ResolvedModel:
        """The version of a registered model, by its number or its alias."""
        return serving_models.resolve(self._client, self._principal, model, version=version, alias=alias)

    @readable
    def preflight(self, request: EndpointRequest) -> tuple[Finding, ...]:
        """What each need of the request meets; an endpoint reads models and secrets as whoever made it."""
        wanted = [replace(need, holder=need.holder or self._principal) for need in request.needs]
        return preflight.findings(self._client, self._principal, wanted)

    @readable
    def reach(self, request: EndpointRequest, *, change: bool) -> Reached:
        """Looks at the endpoint and, with `change`, sends the one next request."""
        at, plan = datetime.now(UTC), request.plan
        until = time.monotonic() + SEND_WITHIN
        there = self._endpoint(plan.endpoint)
        desired = as_seen(there, request)
        seen = self._look(there, desired)
        endpoint = self._told(seen, desired, plan.owner.uid)
        if endpoint is not None and not endpoint.ours and not plan.adopt:
            foreign = f"endpoint {plan.endpoint} is somebody else's: its tags do not name this deployment"
            return Reached(plan_digest(plan), endpoint, (foreign,), None, at)
        if endpoint is not None and not endpoint.ours:
            refuse_adoption(plan, tags_of(seen.endpoint or {}))
        if endpoint is not None and sum(share > 0 for share in plan.traffic.values()) > 1:
            self._watch(request)
        step = next_request(seen, desired) if change else None
        if step is not None:
            self._send(step, desired, until)
        return Reached(
            plan_digest(plan), endpoint, differences(seen, desired), step.says if step is not None else None, at
        )

    @readable
    def score(self, endpoint: str, served: str | None, rows: list[Mapping[str, Any]], *, seconds: float) -> Scored:
        """Scores rows at the endpoint, or at one of its served models whatever its share."""
        at = f"/served-models/{quote(served, safe='')}" if served is not None else ""
        path = f"/serving-endpoints/{quote(endpoint, safe='')}{at}/invocations"
        began = time.monotonic()
        answer = self._client.ask("POST", path, body={"dataframe_records": rows}, seconds=seconds)
        elapsed = time.monotonic() - began
        text = clean(_text(answer.content[: 4 * SHOWN]))[:SHOWN]
        return Scored(answer.status_code, elapsed, _predictions(answer) if answer.status_code == 200 else None, text)

    @readable
    def measured(self, endpoint: str, served: str, since: datetime, percentile: int) -> Measured:
        """What the minutes that were looked at since then tell of one served model; now is looked at as well."""
        self._measure(endpoint)
        return self._windows.measured(endpoint, served, since.timestamp(), percentile)

    @readable
    def logs(self, endpoint: str, served: str) -> str:
        """The last part of what its server printed, behind that of the building of its image."""
        path = f"{ENDPOINTS}/{quote(endpoint, safe='')}/served-models/{quote(served, safe='')}"
        server, build = self._log(f"{path}/logs"), self._log(f"{path}/build-logs")
        if not server or not build:
            return (server or build)[-LOG_CHARACTERS:]
        parts = "... the building of its image:\n", build[-BUILD_CHARACTERS:], "\n... its server:\n"
        return "".join(parts) + server[-(LOG_CHARACTERS - sum(map(len, parts))) :]

    @readable
    def delete(self, endpoint: str, uid: str) -> bool:
        """Asks for the deletion of the endpoint, if it is ours; one that was only taken over is given back.

        Raises PlatformBusy during an update of one that is to be given back.
        """
        seen = self._endpoint(endpoint)
        if seen is None or tags_of(seen).get(TAG_UID) != uid:
            return False
        if removable(seen, uid):
            step = Step("DELETE", f"{ENDPOINTS}/{quote(endpoint, safe='')}", None, "deletes the endpoint")
        else:
            step = letting_go(seen)
        try:
            self._client.do(step.method, step.path, body=step.body)
        except Missing:
            return False
        self._forget(endpoint)
        return True

    @readable
    def exists(self, endpoint: str, uid: str | None) -> bool:
        """Whether the endpoint is there and ours; with None, whether it is there at all."""
        seen = self._endpoint(endpoint)
        return seen is not None and (uid is None or tags_of(seen).get(TAG_UID) == uid)

    def _endpoint(self, name: str) -> Mapping[str, Any] | None:
        try:
            return self._client.do("GET", f"{ENDPOINTS}/{quote(name, safe='')}")
        except Missing:
            return None

    def _look(self, endpoint: Mapping[str, Any] | None, desired: Mapping[str, Any]) -> Seen:
        listed = None
        if needs_permissions(endpoint, desired) and endpoint is not None:
            listed = self._client.do("GET", f"{PERMISSIONS}/{quote(str(endpoint.get('id')), safe='')}")
        config = desired.get("config")
        return Seen(endpoint, listed, tried=config is not None and self._sent.get(desired["name"]) == config)

    def _told(self, seen: Seen, desired: Mapping[str, Any], uid: str) -> RemoteEndpoint | None:
        if seen.endpoint is None:
            return None
        endpoint = endpoint_of(seen.endpoint, uid, self._host)
        if not failed_with_plan(seen, desired):
            endpoint = replace(endpoint, failed="")
        if seen.permissions is None:
            return endpoint
        held, wanted = permissions.direct(seen.permissions), desired["access_control_list"]
        return replace(endpoint, permissions=permissions.statuses(held, wanted, str(seen.endpoint.get("id"))))

    def _send(self, step: Step, desired: Mapping[str, Any], until: float) -> None:
        name = desired["name"]
        try:
            self._client.do(step.method, step.path, body=step.body, until=until)
        except Refused as error:
            if error.reason == ALREADY_EXISTS and step.method == "POST":
                raise self._taken(name, error) from error
            raise
        except Denied as error:
            raise Denied(f"{error.message}{self._advice(step)}", reason=error.reason) from error
        except Missing as error:
            if step.method == "DELETE":
                return
            if self._endpoint(name) is None and step.method != "POST":
                raise PlatformBusy(f"endpoint {name} went while it was changed: {error.message}") from error
            # The endpoint is there, so that something which it names is not.
            raise Refused(error.message, reason="NotFound") from error
        if step.method == "DELETE":
            self._forget(name)
        elif "config" in desired and (step.method == "POST" or step.path.endswith("/config")):
            self._sent[name] = desired["config"]

    def _advice(self, step: Step) -> str:
        """What mends a refusal, where a change of settings asks for more than what serves does."""
        table = (step.body or {}).get("inference_table_config") or {}
        if not step.path.endswith("/ai-gateway") or not table.get("enabled"):
            return ""
        schema = f"{table['catalog_name']}.{table['schema_name']}"
        grant = remedies.grant("CREATE TABLE", needs.SCHEMA, schema, self._principal)
        return f" Logging requests takes, beside USE CATALOG and USE SCHEMA: {grant}"

    def _taken(self, name: str, error: Refused) -> PlatformError:
        """Of a name that was free a moment ago: made meanwhile, or hidden from this identity."""
        try:
            appeared = self._endpoint(name) is not None
        except Denied:
            appeared = False
        if appeared:
            return PlatformBusy(f"endpoint {name} appeared while it was made: {error.message}")
        return Refused(
            f"there is an endpoint {name} that {self._principal} may not see: {error.message} Give the deployment "
            "another name in spec.endpoint.",
            reason="EndpointNameTaken",
        )

    def _watch(self, request: EndpointRequest) -> None:
        """Keeps what was measured during a step: the platform tells of its last minute alone."""
        name, now = request.plan.endpoint, time.time()
        newest = [self._windows.newest(name, each.served) for each in request.plan.served]
        if all(until is not None and until > now - WINDOW for until in newest):
            return
        with suppress(TrainyardError):
            self._measure(name)

    def _measure(self, endpoint: str) -> None:
        answer = self._client.ask(
            "GET", f"{ENDPOINTS}/{quote(endpoint, safe='')}/metrics", accept="text/plain", seconds=METRICS_SECONDS
        )
        if answer.status_code >= 400:
            error = _error(answer)
            if isinstance(error, Missing):
                return  # nothing is measured yet
            raise error
        for label, window in windows_of(_text(answer.content), time.time()).items():
            self._windows.add(endpoint, label, window)

    def _log(self, path: str) -> str:
        try:
            return clean(str(self._client.do("GET", path).get("logs") or "")).strip()
        except (Denied, Missing, Refused):
            return ""

    def _forget(self, name: str) -> None:
        self._windows.forget(name)
        self._sent.pop(name, None)


def _text(content: bytes) -> str:
    return content.decode("utf-8", "replace")


def _predictions(answer: requests.Response) -> list[object] | None:
    try:
        document = json.loads(answer.content)
    except (ValueError, RecursionError):
        return None
    found = document.get("predictions") if isinstance(document, dict) else None
    return found if isinstance(found, list) else None


def _error(answer: requests.Response) -> PlatformError:
    if answer.status_code == 429 or answer.status_code >= 500:
        return Unreachable(f"the platform answered {answer.status_code}")
    request = answer.request
    return DatabricksDialect().error(
        Answer(request.method or "", request.url or "", answer.status_code, answer.headers, answer.content, b"")
    )

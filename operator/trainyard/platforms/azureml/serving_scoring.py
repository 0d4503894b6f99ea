"""Asks an online endpoint for predictions, as its own callers do. Made by `connection`; called by `serving`.

Where an endpoint is asked is told by the platform (`scoringUri`); nothing is sent to a host that the workspace's cloud
does not have for it (invariant 6). Whatever a model answers is an answer: errors are for whoever asked to read. A key
lives for the one request. Requests and answers: Azure documentation, "Deploy MLflow models to online endpoints"
(input_data), "Perform safe rollout" (the header azureml-model-deployment).
"""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

import requests

from trainyard.audit.log import AuditLog
from trainyard.audit.transport import Answer, AuditedAdapter, Bounds
from trainyard.core.errors import PlatformError, Refused, Unreachable
from trainyard.core.serving.seen import Scored
from trainyard.identity.base import TokenSource
from trainyard.identity.clouds import Cloud
from trainyard.platforms.azureml.planes import user_agent
from trainyard.platforms.redaction import clean

DEPLOYMENT_HEADER = "azureml-model-deployment"
MOST_BYTES = 4 * 1024 * 1024
MOST_TEXT = 1000
SHORTEST = 1.0  # seconds


class Scoring:
    """Asks as one principal.

    Args:
        cloud: says which hosts may be asked.
        tokens: tokens of the scope for a workspace's services, for endpoints that take them.
        log: the audit log.
    """

    def __init__(self, cloud: Cloud, tokens: TokenSource, log: AuditLog) -> None:
        self._cloud = cloud
        self._tokens = tokens
        self._log = log

    def ask(
        self,
        endpoint: str,
        uri: str,
        served: str | None,
        rows: Sequence[Mapping[str, Any]],
        key: str | None,
        *,
        seconds: float,
    ) -> Scored:
        """One request, and once more with a new token where the first is not accepted.

        Args:
            uri: the endpoint's `scoringUri`.
            served: the deployment that is to answer; None: by shares.
            key: what the request proves itself by; None: a token of ours.
            seconds: what it may take, both times together.

        Raises:
            Refused: HostNotAllowed; nothing was sent.
            Unreachable: there was no answer, or a redirect.
            IdentityError: no token can be had.
        """
        if not self._cloud.is_scoring(uri):
            raise Refused(
                f"endpoint {endpoint} says that it is asked at {urlsplit(uri).netloc[:200]!a}, which is no host of "
                "this workspace's cloud for that; nothing was sent there. If it should be, have the operator started "
                "with --azure-cloud FILE whose scoringHosts name it.",
                reason="HostNotAllowed",
            )
        scored = self._once(endpoint, uri, served, rows, key, seconds)
        if scored.status == 401 and key is None:
            self._tokens.forget()
            scored = self._once(endpoint, uri, served, rows, key, max(SHORTEST, seconds - scored.seconds))
        return scored

    def _once(
        self,
        endpoint: str,
        uri: str,
        served: str | None,
        rows: Sequence[Mapping[str, Any]],
        key: str | None,
        seconds: float,
    ) -> Scored:
        facts: dict[str, Any] = dict(self._tokens.describe())
        if key is None:
            token = self._tokens.token()
            secret, facts["assertion_jti"] = token.value, token.assertion_jti
        else:
            secret = key
        headers = {
            "Authorization": f"Bearer {secret}",
            "Content-Type": "application/json",
            "Accept": "application/json",
            "User-Agent": user_agent(),
            **({DEPLOYMENT_HEADER: served} if served is not None else {}),
        }
        bounds = replace(Bounds(), read=seconds, total=seconds, body=MOST_BYTES)
        adapter = AuditedAdapter(self._log, _Words(endpoint), lambda: facts, bounds, documents=False, judged=False)
        began = time.monotonic()
        with requests.Session() as session:
            session.adapters.clear()
            session.mount("https://", adapter)
            # Keeps requests from putting a password of ~/.netrc in place of the token.
            session.auth = _AsItIs()
            try:
                answer = session.post(uri, data=json.dumps(body_of(rows)), headers=headers, allow_redirects=False)
            except Refused as error:
                raise Unreachable(error.message, reason=error.reason) from error
        text = clean(answer.text.replace(secret, "[token]"))[:MOST_TEXT]
        return Scored(answer.status_code, time.monotonic() - began, predictions_of(answer), text)


class _AsItIs(requests.auth.AuthBase):
    """The request as it was made."""

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        return request


class _Words:
    """The dialect of an endpoint's answers: none is an error. See `audit.transport.Dialect`."""

    def __init__(self, endpoint: str) -> None:
        self._endpoint = endpoint

    def error(self, answer: Answer) -> PlatformError | None:  # noqa: ARG002 - the protocol's signature
        """Nothing: whoever asked reads it."""
        return None

    def remote_id(self, answer: Answer) -> str | None:  # noqa: ARG002 - the protocol's signature
        """The endpoint."""
        return self._endpoint[:255]


def body_of(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Rows as an MLflow model behind an online endpoint takes them. Pure.

    Columns stand in the order in which rows first name them; what a row does not have is null.
    """
    columns = list(dict.fromkeys(name for row in rows for name in row))
    data = [[row.get(name) for name in columns] for row in rows]
    return {"input_data": {"columns": columns, "index": list(range(len(rows))), "data": data}}


def predictions_of(answer: requests.Response) -> list[object] | None:
    """The predictions of a good answer, a bare list or under `predictions`; None where it is no such answer."""
    if answer.status_code != 200:
        return None
    try:
        found = answer.json()
        # Some servers put the list into a text.
        found = json.loads(found) if isinstance(found, str) else found
    except (ValueError, RecursionError):
        return None
    if isinstance(found, dict):
        found = found.get("predictions")
    return found if isinstance(found, list) else None

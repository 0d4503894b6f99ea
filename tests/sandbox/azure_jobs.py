"""Plain requests about Azure ML jobs, as one application, for the tests of jobs and of the engine."""

from __future__ import annotations

import uuid
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import requests

from .azure_fixtures import Arm
from .conftest import wait_until

PUT, GET, CANCEL = "2025-01-01-preview", "2024-01-01-preview", "2023-04-01-preview"
ENVIRONMENT = "azureml://registries/azureml/environments/sklearn-1.5/versions/1"


def new_name() -> str:
    return f"ty-{uuid.uuid4().hex[:12]}"


def body(**properties: Any) -> dict[str, Any]:
    command = {"jobType": "Command", "command": "python train.py", "environmentId": ENVIRONMENT}
    return {"properties": command | properties}


class Jobs:
    """Plain requests as one application."""

    def __init__(self, arm: Arm, client_id: str) -> None:
        self._arm, self._client_id = arm, client_id

    def put(self, name: str, **properties: Any) -> requests.Response:
        return self._arm(self._client_id, "PUT", f"/jobs/{name}", version=PUT, json=body(**properties))

    def put_body(self, name: str, document: Any) -> requests.Response:
        return self._arm(self._client_id, "PUT", f"/jobs/{name}", version=PUT, json=document)

    def get(self, name: str) -> dict[str, Any]:
        answer = self._arm(self._client_id, "GET", f"/jobs/{name}", version=GET)
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    def status(self, name: str) -> str:
        status: str = self.get(name)["properties"]["status"]
        return status

    def listed(self, **params: Any) -> list[str]:
        answer = self._arm(self._client_id, "GET", "/jobs", version=GET, params=params)
        names: list[str] = []
        while True:
            assert answer.status_code == 200, answer.text
            page = answer.json()
            names += [job["name"] for job in page["value"]]
            if "nextLink" not in page:
                return names
            following = dict(parse_qsl(urlsplit(page["nextLink"]).query))
            answer = self._arm(self._client_id, "GET", "/jobs", params=following)

    def cancel(self, name: str) -> requests.Response:
        return self._arm(self._client_id, "POST", f"/jobs/{name}/cancel", version=CANCEL)

    def ended(self, name: str, timeout_seconds: float = 30) -> str:
        ends = ("Completed", "Failed", "Canceled")
        status: str = wait_until(lambda: found if (found := self.status(name)) in ends else None, timeout_seconds)
        return status

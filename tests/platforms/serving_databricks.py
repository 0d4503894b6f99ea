"""Databricks Model Serving in the words of tests/platforms/serving.py."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import httpx

from load import Question
from stand import Stand, Team
from tests.platforms.models import ROW, Files, Row
from tests.platforms.serving import number_of, trusting

REGISTRY = "/api/2.0/mlflow/unity-catalog"
SCHEMA = "main.ml"


class DatabricksServing:
    """The sandbox's Model Serving."""

    scales_to_zero: ClassVar[bool] = True
    grants: ClassVar[bool] = True

    def __init__(self, stand: Stand) -> None:
        self._control, self._address = stand.control, stand.control.address
        self._tls = trusting(self._address.ca_file)

    def publish(self, team: Team, name: str, files: Files, *, tags: Mapping[str, str] | None = None) -> str:
        full = f"{SCHEMA}.{name}"
        with self._as(team.principal) as client:
            client.post(f"{REGISTRY}/registered-models/create", json={"name": full})  # there already from the second on
            said = [{"key": key, "value": value} for key, value in (tags or {}).items()]
            made = self._sent(
                client, f"{REGISTRY}/model-versions/create", {"name": full, "source": "dbfs:/models", "tags": said}
            )
            version = str(made["model_version"]["version"])
            for path, content in files.items():
                where = f"/Models/{full.replace('.', '/')}/{version}/{path}"
                signed = self._sent(client, "/api/2.0/fs/create-upload-url", {"path": where})["url"]
                httpx.put(signed, content=content, verify=self._tls, trust_env=False).raise_for_status()
            self._sent(client, f"{REGISTRY}/model-versions/finalize", {"name": full, "version": version})
        return version

    def alias(self, team: Team, name: str, alias: str, version: str) -> None:
        with self._as(team.principal) as client:
            body = {"name": f"{SCHEMA}.{name}", "alias": alias, "version": version}
            self._sent(client, f"{REGISTRY}/registered-models/alias", body)

    def script(self, **script: Any) -> None:
        self._control.script_serving(platform="databricks", **script)

    def clean(self) -> None:
        self._control.clear_serving_scripts()

    def asker(self) -> str:
        return self._control.add_principal("asker")

    def question(self, url: str, principal: str, rows: Sequence[Row] = (ROW,)) -> Question:
        token = self._control.issue_token(principal)
        return Question(
            url,
            {"dataframe_records": [dict(row) for row in rows]},
            lambda: token,
            lambda _, document: number_of(document["predictions"]),
            self._tls,
        )

    def _as(self, principal: str) -> httpx.Client:
        token = {"Authorization": f"Bearer {self._control.issue_token(principal)}"}
        return httpx.Client(base_url=self._address.host, headers=token, verify=self._tls, trust_env=False)

    def _sent(self, client: httpx.Client, path: str, body: Mapping[str, Any], method: str = "POST") -> dict[str, Any]:
        answer = client.request(method, path, json=body)
        assert answer.is_success, f"{method} {path}: {answer.status_code} {answer.text}"
        found: dict[str, Any] = answer.json()
        return found

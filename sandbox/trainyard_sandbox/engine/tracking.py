"""Metrics and model versions of pretended runs, written through the platform's own API as a run's code would.

pretend.py calls `write_tracking` before a run ends. It uses the run-as principal's runtime token, so that missing
permissions show here as they would in real code.

Endpoints: MLflow REST API (`runs/log-metric`); for model versions what MLflow's Unity Catalog client calls
(`mlflow/store/_unity_catalog/registry/rest_store.py`: registered-models/create, model-versions/create, finalize).
"""

from __future__ import annotations

import ssl
from typing import Any

import httpx

from trainyard_sandbox.engine.environment import job_environment
from trainyard_sandbox.engine.runs import Run
from trainyard_sandbox.engine.scripts import Script
from trainyard_sandbox.state import SandboxState


async def write_tracking(state: SandboxState, run: Run, script: Script) -> str | None:
    """Log the script's metrics and register its model version; returns what went wrong, or None."""
    mlflow_run_id = job_environment(run, run.tasks[0]).get("MLFLOW_RUN_ID")
    if mlflow_run_id is None:
        return "MLFLOW_RUN_ID is not in the job's environment"
    token = state.tokens.issue(run.run_as, 600, "runtime")
    context = ssl.create_default_context(cafile=str(state.ca_file))
    headers = {"Authorization": f"Bearer {token.value}", "User-Agent": "trainyard-sandbox-pretend"}
    try:
        async with httpx.AsyncClient(
            base_url=state.base_url, verify=context, headers=headers, timeout=60, trust_env=False
        ) as client:
            for name, value in script.metrics.items():
                metric = {"run_id": mlflow_run_id, "key": name, "value": value, "timestamp": state.runs.now_ms()}
                await _post(client, "/api/2.0/mlflow/runs/log-metric", metric)
            if script.registered_model_name is not None:
                await _register(client, script.registered_model_name, mlflow_run_id)
    except httpx.HTTPStatusError as error:
        return f"{error.response.status_code} {error.response.text}"
    except httpx.HTTPError as error:
        return f"{type(error).__name__}: {error}"
    return None


async def _register(client: httpx.AsyncClient, name: str, mlflow_run_id: str) -> None:
    registry = "/api/2.0/mlflow/unity-catalog"
    created = await client.post(f"{registry}/registered-models/create", json={"name": name})
    if created.json().get("error_code") not in (None, "RESOURCE_ALREADY_EXISTS"):
        created.raise_for_status()
    version = {"name": name, "source": f"runs:/{mlflow_run_id}/model", "run_id": mlflow_run_id}
    made = await _post(client, f"{registry}/model-versions/create", version)
    number = made["model_version"]["version"]
    await _post(client, f"{registry}/model-versions/finalize", {"name": name, "version": number})


async def _post(client: httpx.AsyncClient, path: str, body: dict[str, Any]) -> dict[str, Any]:
    response = await client.post(path, json=body)
    response.raise_for_status()
    answer: dict[str, Any] = response.json()
    return answer

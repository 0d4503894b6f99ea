"""Metrics and model versions of pretended jobs, written through the workspace's MLflow API as a job's code would.

pretend.py calls `write_tracking` before a job ends, with the token of the job's own run.

Endpoints: MLflow REST API (`runs/log-metric`, `registered-models/create`, `model-versions/create`).
"""

from __future__ import annotations

import ssl
from typing import Any

import httpx

from trainyard_sandbox.azure.engine.environment import tracking_uri
from trainyard_sandbox.azure.engine.scripts import JobScript
from trainyard_sandbox.azure.job_store import AzureJob
from trainyard_sandbox.azure.mlflow_tokens import issue_run_token
from trainyard_sandbox.state import SandboxState


async def write_tracking(state: SandboxState, job: AzureJob, script: JobScript) -> str | None:
    """Log the script's metrics and register its model version; returns what went wrong, or None."""
    token = issue_run_token(state, job)
    context = ssl.create_default_context(cafile=str(state.ca_file))
    headers = {"Authorization": f"Bearer {token}", "User-Agent": "trainyard-sandbox-pretend"}
    base_url = f"{tracking_uri(state.azure)}/api/2.0/mlflow"
    try:
        async with httpx.AsyncClient(
            base_url=base_url, verify=context, headers=headers, timeout=60, trust_env=False
        ) as client:
            for name, value in script.metrics.items():
                at = int(state.now() * 1000)
                metric = {"run_id": job.name, "key": name, "value": value, "timestamp": at}
                await _post(client, "/runs/log-metric", metric)
            if script.registered_model_name is not None:
                await _register(client, script.registered_model_name, job)
    except httpx.HTTPStatusError as error:
        return f"{error.response.status_code} {error.response.text}"
    except httpx.HTTPError as error:
        return f"{type(error).__name__}: {error}"
    finally:
        state.azure.tokens.expire_value(token)
    return None


async def _register(client: httpx.AsyncClient, name: str, job: AzureJob) -> None:
    created = await client.post("/registered-models/create", json={"name": name})
    if created.json().get("error_code") not in (None, "RESOURCE_ALREADY_EXISTS"):
        created.raise_for_status()
    version = {"name": name, "source": f"runs:/{job.name}/model", "run_id": job.name}
    await _post(client, "/model-versions/create", version)


async def _post(client: httpx.AsyncClient, path: str, body: dict[str, Any]) -> None:
    response = await client.post(path, json=body)
    response.raise_for_status()

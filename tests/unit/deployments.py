"""ModelDeployments as an API server gives them, for tests of what is told and asked of them."""

from typing import Any

from trainyard.client import Deployment, Run

Object = dict[str, Any]
DATABRICKS = "https://adb-1.1.azuredatabricks.net"
AZURE = (
    "https://management.azure.com/subscriptions/44444444-5555-6666-7777-888888888888/resourceGroups/ml"
    "/providers/Microsoft.MachineLearningServices/workspaces/wine"
)
AZURE_URL = "https://wine.westeurope.inference.ml.azure.com/score"
ORIGIN = {
    "run": "forest-3",
    "uid": "run-uid",
    "mlflowRunId": "mlf-3",
    "commit": "4f1c2a9",
    "codeDigest": "sha256:c0de",
    "requestedBy": "ada@example.com",
    "submittedAs": "sp-trainer",
}


def at(moment: str) -> str:
    return f"2026-11-23T12:{moment}Z"


def conditions(phase: str, reason: str | None, message: str, available: bool = True) -> list[Object]:
    words = {"reason": reason or phase, "message": message, "lastTransitionTime": at("10:00")}
    ready = {"type": "Ready", "status": "True" if phase == "Ready" else "False"} | words
    return [ready, {"type": "Available", "status": str(available), **words, "reason": "Serving"}]


def endpoint(platform: str = "databricks", **more: Any) -> Object:
    host = DATABRICKS if platform == "databricks" else AZURE
    url = f"{DATABRICKS}/serving-endpoints/team-wine/invocations" if platform == "databricks" else AZURE_URL
    base = {"name": "team-wine", "platform": platform, "host": host, "principal": "sp-1", "mode": "federated"}
    return base | {"url": url} | more


def serving(version: str, served: str, **more: Any) -> Object:
    return {
        "name": "forest",
        "served": served,
        "model": "main.ml.forest",
        "version": version,
        "computeClass": "small",
        "minReplicas": 1,
        "maxReplicas": 1,
        "traffic": 100,
    } | more


def served(version: str, name: str, answers: int, wanted: int, **more: Any) -> Object:
    return {
        "name": "forest",
        "served": name,
        "model": "main.ml.forest",
        "version": version,
        "state": "Ready",
        "desiredTraffic": wanted,
        "servedTraffic": answers,
    } | more


def revision(number: int, *models: Object) -> Object:
    return {"number": number, "digest": f"sha256:{number}", "createdAt": at("00:00"), "models": list(models)}


SPEC: Object = {
    "workspaceRef": {"name": "databricks"},
    "models": [
        {"name": "forest", "model": {"name": "forest", "version": "4"}, "compute": {"class": "small"}},
    ],
}


def deployment(
    phase: str | None = "Ready",
    reason: str | None = None,
    message: str = "revision 3 answers all requests",
    *,
    generation: int = 1,
    spec: Object | None = None,
    name: str = "wine",
    namespace: str = "team",
    **status: Any,
) -> Deployment:
    """One whose status speaks of the newest spec, unless observedGeneration is among `status`."""
    meta = {"name": name, "namespace": namespace, "uid": f"uid-{name}", "resourceVersion": "1"}
    written: Object = {}
    if phase is not None:
        written = {"observedGeneration": generation, "phase": phase, "conditions": conditions(phase, reason, message)}
    return Deployment(
        {
            "apiVersion": "trainyard.dev/v1alpha1",
            "kind": "ModelDeployment",
            "metadata": meta | {"creationTimestamp": at("00:00"), "generation": generation},
            "spec": SPEC | (spec or {}),
            "status": written | status,
        }
    )


def rolling(phase: str = "RollingOut", stage: str = "Stepping", **more: Any) -> Deployment:
    """Revision 4 in its first step beside revision 3."""
    rollout = {"stage": stage, "step": 1, "steps": 2, "traffic": 10, "since": at("58:00")} | more.pop("rollout", {})
    status = {
        "revision": 4,
        "lastGoodRevision": 3,
        "target": revision(4, serving("4", "forest-bbbb")),
        "lastGood": revision(3, serving("3", "forest-aaaa", origin=ORIGIN)),
        "endpoint": endpoint(),
        "rollout": rollout,
        "servedModels": [served("3", "forest-aaaa", 95, 90), served("4", "forest-bbbb", 5, 10)],
        "traffic": "forest:3=95/90, forest:4=5/10",
    }
    return deployment(phase, None, "step 1 of 2: revision 4 answers 10 %", **(status | more))


def training(name: str = "forest-3", uid: str = "run-uid", **status: Any) -> Run:
    """The run that made version 3."""
    meta = {"name": name, "namespace": "team", "uid": uid, "resourceVersion": "1", "creationTimestamp": at("00:00")}
    spec = {
        "workspaceRef": {"name": "databricks"},
        "code": {"git": {"url": "https://git.example/wine.git", "ref": "main"}},
        "entrypoint": {"pythonFile": "train.py"},
        "compute": {"class": "small"},
        "inputs": {"wines": {"table": "main.lake.wines"}},
    }
    written = {"phase": "Succeeded", "model": {"name": "main.ml.forest", "version": "3", "uri": "models:/x/3"}}
    return Run({"metadata": meta, "spec": spec, "status": written | status})

"""The second half of `make demo`: what was trained is served on both platforms, changed by steps, and taken back.

Callers ask all the time for what the held-out wines are, with tokens of their own; who answered, how well and when
is counted from outside, by hack/load.py.
"""

from __future__ import annotations

import json
import ssl
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import Any

from rich.console import Console
from rich.table import Table
from sklearn.datasets import load_wine
from sklearn.model_selection import train_test_split

from chart import chart
from load import Asked, Load, Question, failed
from stand import Process, Stand, StandError

SCORE = "Microsoft.MachineLearningServices/workspaces/onlineEndpoints/score/action"
# The header in which each platform says which served model answered.
WHO = {"databricks": "served-model-name", "azureml": "azureml-model-deployment"}
TEST_SHARE = 0.3  # as examples/quickstart/run.yaml splits
# One copy on Azure ML takes one request and lets one wait, which may be the operator's own check; the next gets 429.
RATE, CLIENTS = 6.0, 1
SECONDS = 180
# In place of the quickstart's minutes: a demo is short.
HOLD_SECONDS = 3
# A mistake that shows only when it is served: the run ends well, and what it registered loads nowhere else.
FELLED = '''
"""Registers a model that can be loaded only where it was trained."""
import os

import mlflow
from mlflow.models import infer_signature
from sklearn.datasets import load_wine


class Felled(mlflow.pyfunc.PythonModel):
    def load_context(self, context):
        self.run = os.environ["TRAINYARD_NAME"]

    def predict(self, context, model_input):
        return [0] * len(model_input)


rows = load_wine(as_frame=True).data.head(3)
with mlflow.start_run():
    mlflow.log_metric("accuracy", 0.99)
    mlflow.pyfunc.log_model(
        "model",
        python_model=Felled(),
        signature=infer_signature(rows, [0, 0, 0]),
        pip_requirements=["scikit-learn==1.9.1", "azureml-inference-server-http"],
        registered_model_name=os.environ["TRAINYARD_MODEL_NAME"],
    )
'''


@dataclass
class Wines:
    """The rows that no training has seen, and what they are."""

    columns: list[str]
    rows: list[list[float]]
    kinds: list[int]

    @classmethod
    def held_out(cls, seed: int) -> Wines:
        """As the training with that seed leaves them out."""
        features, kinds = load_wine(return_X_y=True, as_frame=True)
        _, rows, _, kept = train_test_split(
            features.astype(float), kinds, test_size=TEST_SHARE, stratify=kinds, random_state=seed
        )
        return cls(list(rows.columns), rows.to_numpy().tolist(), kept.tolist())

    def body(self, platform: str) -> dict[str, Any]:
        """A request to score them, as the platform takes it."""
        if platform == "databricks":
            return {"dataframe_records": [dict(zip(self.columns, row, strict=True)) for row in self.rows]}
        return {"input_data": {"columns": self.columns, "index": list(range(len(self.rows))), "data": self.rows}}


@dataclass
class Served:
    """A deployment on one platform, what callers saw of it, and which version each served model was."""

    platform: str
    name: str
    wines: Wines
    versions: dict[str, str] = field(default_factory=dict)
    predicted: dict[str, list[Any]] = field(default_factory=dict)
    asked: list[Asked] = field(default_factory=list)

    def answered_by(self, headers: Mapping[str, str], document: Any) -> str:
        """Who answered; and keeps what it said."""
        who = headers[WHO[self.platform]]
        self.predicted[who] = document["predictions"] if isinstance(document, dict) else document
        return who

    def version(self, served: str) -> str:
        """What people call it."""
        return f"version {self.versions.get(served, '?')}"

    def told(self) -> list[Asked]:
        """The log, with versions in place of served models."""
        return [replace(each, by=self.version(each.by)) if each.by else each for each in self.asked]


def accuracy(predicted: Sequence[Any], truth: Sequence[int]) -> float:
    """The share of rows whose prediction is right."""
    return sum(int(one) == other for one, other in zip(predicted, truth, strict=True)) / len(truth)


def rows_of_table(served: Sequence[Served]) -> list[tuple[str, ...]]:
    """A row for each version that answered: platform, version, requests, failures, accuracy on the held-out wines."""
    rows = []
    for each in served:
        counted: dict[str, int] = defaultdict(int)
        for asked in each.asked:
            counted[asked.by] += asked.ok
        for who in sorted((name for name in counted if name), key=each.version):
            share = accuracy(each.predicted[who], each.wines.kinds)
            rows.append((each.platform, each.version(who), str(counted[who]), f"{share:.3f}"))
        bad = failed(each.asked)
        why = f"{bad[0].status} {bad[0].error[:60]}" if bad else ""
        rows.append((each.platform, "failed requests", str(len(bad)), why))
    return rows


def show(console: Console, served: Sequence[Served]) -> None:
    """The table of versions, and a chart of who answered for each platform."""
    table = Table(title="what callers got, counted by themselves", title_justify="left")
    for column in ("platform", "answered by", "requests", f"accuracy on {len(served[0].wines.kinds)} held-out wines"):
        table.add_column(column)
    for row in rows_of_table(served):
        table.add_row(*row)
    console.print(table)
    for each in served:
        asked = each.told()
        console.print(f"\nwho answered on {each.platform}, over time")
        for line in chart(asked, sorted({one.by for one in asked if one.ok})):
            console.print(line, markup=False)


class Serving:
    """The deployments of the demo, one in each workspace."""

    def __init__(
        self, made: Stand, operator: Process, namespace: str, manifests: Mapping[str, Any], seed: int, say: Console
    ) -> None:
        self._made, self._operator, self._namespace, self._say = made, operator, namespace, say
        self._callers = {
            "databricks": made.control.add_principal("wine-caller"),
            "azureml": made.control.add_application("wine-caller"),
        }
        self._manifests = manifests
        self.served = [Served(name, each["metadata"]["name"], Wines.held_out(seed)) for name, each in manifests.items()]
        self._shown: dict[str, tuple[str, ...]] = {}
        self._began = time.monotonic()

    def apply(self) -> None:
        """Applies both, with the caller that may ask and steps of seconds."""
        for platform, manifest in self._manifests.items():
            spec = manifest["spec"]
            spec["permissions"] = [{"servicePrincipal": self._callers[platform], "level": "CAN_QUERY"}]
            for step in spec["rollout"]["steps"]:
                step["holdForSeconds"] = HOLD_SECONDS
        self._made.apply(*self._manifests.values())

    def allow(self) -> None:
        """What an administrator of Azure does by the command in the status; on Databricks the operator has done it."""
        self._made.control.assign_custom_role(self._callers["azureml"], "Wine Caller", [SCORE])

    def serve(self, runs: Mapping[str, str], promoted: str) -> None:
        """Has each serve what another run made."""
        for each in self.served:
            model = {
                **self._manifests[each.platform]["spec"]["models"][0],
                "model": {"fromRun": {"name": runs[each.platform]}},
            }
            self._patch(each.name, {"models": [model]})
        self.until(promoted)

    def _patch(self, name: str, spec: Mapping[str, Any]) -> None:
        self._made.cluster.kubectl(
            "patch", "modeldeployment", name, "-n", self._namespace, "--type=merge", "-p", json.dumps({"spec": spec})
        )

    def until(self, phase: str) -> None:
        """Shows each step as it happens, until all have come to that phase with the spec of now."""
        deadline = time.monotonic() + SECONDS
        while True:
            self._operator.check()
            found = [self._made.get("modeldeployments", each.name, self._namespace) for each in self.served]
            for each, now in zip(self.served, found, strict=True):
                self._tell(each, now.get("status", {}))
            if all(_settled(now, phase) for now in found):
                return
            if time.monotonic() > deadline:
                raise StandError(f"the deployments did not come to {phase} in {SECONDS} s; they are {self._shown}")
            time.sleep(0.1)

    def _tell(self, each: Served, status: Mapping[str, Any]) -> None:
        for model in status.get("servedModels", []):
            if model.get("version"):
                each.versions[model["served"]] = model["version"]
        ready = next((c for c in status.get("conditions", []) if c["type"] == "Ready"), {})
        seen = (status.get("phase", ""), ready.get("reason", ""), status.get("traffic", ""))
        if seen[0] and seen != self._shown.get(each.name):
            self._shown[each.name] = seen
            row = (f"{time.monotonic() - self._began:.1f} s", f"{each.platform:<10}", *seen)
            self._say.print("    " + "  ".join(row), soft_wrap=True)

    def load(self) -> Callers:
        """Callers of both endpoints, from now on."""
        return Callers([(each, self._question(each)) for each in self.served])

    def _question(self, each: Served) -> Question:
        control, azure = self._made.control, self._made.address.azure
        url = self._made.get("modeldeployments", each.name, self._namespace)["status"]["endpoint"]["url"]
        caller = self._callers[each.platform]
        token = (
            control.issue_token(caller)
            if each.platform == "databricks"
            else control.issue_azure_token(caller, azure.ml_resource)
        )
        tls = ssl.create_default_context(cafile=str(self._made.address.ca_file))
        return Question(url, each.wines.body(each.platform), lambda: token, each.answered_by, tls)

    def failures(self) -> Iterator[tuple[str, Mapping[str, Any]]]:
        """What each status tells of the rollout that went back."""
        for each in self.served:
            status = self._made.get("modeldeployments", each.name, self._namespace)["status"]
            yield each.platform, status["failure"]

    def failed(self) -> list[Asked]:
        """Requests that were not answered as they should be."""
        return [asked for each in self.served for asked in failed(each.asked)]


class Callers:
    """Loads on every endpoint; use it as a context manager."""

    def __init__(self, questions: Sequence[tuple[Served, Question]]) -> None:
        self._loads = [(each, Load(question, rate=RATE, clients=CLIENTS)) for each, question in questions]
        self._stack = ExitStack()

    def __enter__(self) -> Callers:
        for _, load in self._loads:
            self._stack.enter_context(load)
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()
        for each, load in self._loads:
            each.asked = load.asked()

    def wait(self, count: int) -> None:
        """Until each has been answered so many times more."""
        for _, load in self._loads:
            load.wait(count)


def _settled(now: Mapping[str, Any], phase: str) -> bool:
    status = now.get("status", {})
    return status.get("observedGeneration") == now["metadata"]["generation"] and status.get("phase") == phase

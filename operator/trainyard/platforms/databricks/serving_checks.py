"""What an endpoint needs beside rights in Unity Catalog: signatures, people to grant rights to, what it takes over.

Called by `preflight`; only reads. A model in Unity Catalog has to have a signature (Databricks documentation, "Manage
model lifecycle in Unity Catalog"), without which its server would take any request. What a version was logged with
stands in the tag mlflow.log-model.history of its MLflow run (mlflow models/model.py, Model.log), if that may be read.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from trainyard.core.errors import Denied, Missing
from trainyard.platforms.base import Need
from trainyard.platforms.databricks import needs
from trainyard.platforms.databricks.asked import ADMINS, EVERYBODY, REFUSALS, SCIM, Asked
from trainyard.platforms.databricks.serving_models import REGISTRY
from trainyard.platforms.databricks.serving_steps import ENDPOINTS
from trainyard.platforms.verdicts import Found, NotToldError, missing, passed

HISTORY = "mlflow.log-model.history"
PEOPLE = {
    needs.GROUP: ("Groups", "displayName"),
    needs.USER: ("Users", "userName"),
    needs.SERVICE_PRINCIPAL: ("ServicePrincipals", "applicationId"),
}


class ServingChecks:
    """Looks through the requests of one preflight."""

    def __init__(self, asked: Asked) -> None:
        self._asked = asked

    def signature(self, need: Need) -> Found:
        """A model version that says what goes in and what comes out."""
        model, _, version = need.name.rpartition("/")
        try:
            answer = self._asked.get(f"{REGISTRY}/model-versions/get", name=model, version=version)
        except Missing as error:
            return missing(f"there is no version {version} of {model}: {error.message}")
        found = answer.get("model_version") or {}
        signed = _signed(self._logged(str(found.get("run_id") or ""), need.name), str(found.get("source") or ""))
        if signed is None:
            raise NotToldError(f"whether version {version} of {model} has a signature is not told by its MLflow run")
        if signed:
            return passed(f"version {version} of {model} has a signature")
        return missing(
            f"version {version} of {model} was logged without a signature, so that its server can not tell a good "
            "request. Log it with signature=infer_signature(inputs, predictions), or with input_example, and register "
            "that version."
        )

    def person(self, need: Need) -> Found:
        """Somebody who is to be given a right on the endpoint."""
        if need.kind == needs.GROUP and need.name in EVERYBODY | {ADMINS}:
            return passed(f"group {need.name} is in every workspace")
        collection, attribute = PEOPLE[need.kind]
        quoted = need.name.replace("\\", "\\\\").replace('"', '\\"')
        try:
            rows = self._asked.get(f"{SCIM}/{collection}", filter=f'{attribute} eq "{quoted}"').get("Resources") or ()
        except REFUSALS as error:
            raise NotToldError(
                f"whether there is a {need.kind} {need.name} can not be read: {error.message}"
            ) from error
        if rows:
            return passed(f"there is a {need.kind} {need.name}")
        return missing(
            f"there is no {need.kind} {need.name} in this workspace: correct the name, or have it added under "
            "Settings > Identity and access"
        )

    def endpoint(self, need: Need) -> Found:
        """An endpoint that is to be taken over: who takes it has to manage it. There need not be one."""
        try:
            level = self._asked.get(f"{ENDPOINTS}/{need.name}").get("permission_level")
        except Missing:
            return passed(f"there is no endpoint {need.name} yet")
        except Denied as error:
            return missing(f"{need.holder} may not see endpoint {need.name}: {error.message} {_share(need)}")
        if level is None:
            raise NotToldError(f"the platform does not say which right {need.holder} has on endpoint {need.name}")
        if level == needs.CAN_MANAGE:
            return passed(f"{need.holder} manages endpoint {need.name}")
        return missing(f"{need.holder} has {level} on endpoint {need.name}, and needs CAN_MANAGE. {_share(need)}")

    def _logged(self, run_id: str, spoken: str) -> Sequence[Mapping[str, Any]]:
        """The models that the MLflow run has logged."""
        if not run_id:
            raise NotToldError(f"{spoken} names no MLflow run, so that its signature can not be read")
        try:
            run = self._asked.get("/api/2.0/mlflow/runs/get", run_id=run_id).get("run") or {}
        except REFUSALS as error:
            raise NotToldError(f"MLflow run {run_id} of {spoken} can not be read: {error.message}") from error
        tags = {tag.get("key"): tag.get("value") for tag in (run.get("data") or {}).get("tags") or ()}
        try:
            rows = json.loads(str(tags.get(HISTORY) or "[]"))
        except (ValueError, RecursionError):
            rows = []
        found = [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []
        if not found:
            raise NotToldError(f"MLflow run {run_id} of {spoken} does not tell what it logged")
        return found


def _signed(logged: Sequence[Mapping[str, Any]], source: str) -> bool | None:
    """Whether the model that lies at `source` has a signature; None where that, or which one it is, can not be told.

    Newer clients leave the signature out of what they tell of the model (mlflow 2.22 models/model.py, get_tags_dict).
    """
    told = [row for row in logged if "signature" in row]
    answers = {bool(row["signature"]) for row in told}
    if len(answers) > 1:
        at = [row for row in told if row.get("artifact_path") and source.endswith(f"/{row['artifact_path']}")]
        answers = {bool(row["signature"]) for row in at[-1:]}
    return answers.pop() if len(answers) == 1 and len(told) == len(logged) else None


def _share(need: Need) -> str:
    return (
        f"Have somebody who manages it grant that: Serving > {need.name} > Permissions > {need.holder}: Can Manage; or "
        "give the deployment another name in spec.endpoint."
    )

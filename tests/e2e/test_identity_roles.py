"""docs/identity/roles.md: three identities over one target, each with its own rights and without the others'.

The sandbox is given the rights that the page and the role definitions beside the manifests name, and nothing more.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pytest
import requests
import yaml

from stand import AUDIENCE, AZURE_CLOUD, ROOT
from tests.e2e.scene import Scene
from trainyard.platforms.azureml import needs
from trainyard.platforms.azureml.rights import permits

EXAMPLES = ROOT / "examples" / "identity"
ROLES = ("training", "deployment", "compute")
READER = "22222222-0000-0000-0000-000000000004"
PERMISSIONS = "/providers/Microsoft.Authorization/permissions"
COMPUTE = "/computes/another"
ENDPOINT = "Microsoft.MachineLearningServices/workspaces/onlineEndpoints/write"
ANY_COMPUTE = "Microsoft.MachineLearningServices/workspaces/computes/write"
# What docs/identity/roles.md grants, beside workspace-access.
RIGHTS: Mapping[str, dict[str, Any]] = {
    "training": {},
    "deployment": {"grants": {"main": ["USE CATALOG"], "main.wine": ["USE SCHEMA", "EXECUTE"]}},
    "compute": {"entitlements": ["workspace-access", "allow-cluster-create"]},
    "reader": {
        "grants": {"main": ["USE CATALOG"], "main.wine": ["USE SCHEMA", "SELECT", "READ VOLUME", "CREATE MODEL"]}
    },
}


@dataclass(frozen=True)
class Identities:
    """A namespace with the example's three workspaces; principals by role."""

    namespace: str
    principals: Mapping[str, str]


def applied(scene: Scene, file: str, names: Mapping[str, str], **target: Any) -> None:
    """The example with these strings in place of those that stand for them."""
    text = (EXAMPLES / file).read_text()
    for placeholder, real in names.items():
        text = text.replace(placeholder, real)
    objects = list(yaml.safe_load_all(text))
    for each in objects:
        spec = each.get("spec", {})
        spec.update({name: value for name, value in target.items() if name in spec})
    scene.apply(*objects)


@pytest.fixture
def databricks(scene: Scene) -> Identities:
    """Principals with the rights of the page, and examples/identity/roles-databricks.yaml."""
    namespace, made = scene.namespace(), {}
    for role, rights in RIGHTS.items():
        made[role] = scene.control.add_principal(role, **{"entitlements": ["workspace-access"], **rights})
    for role in ROLES:
        subject = f"system:serviceaccount:{namespace}:{role}"
        scene.control.add_policy(made[role], scene.cluster.issuer, subject, [AUDIENCE])
    scene.control.grant_role(made["training"], made["reader"])
    names = {f"11111111-0000-0000-0000-00000000000{number}": made[role] for number, role in enumerate(RIGHTS, 1)}
    applied(
        scene,
        "roles-databricks.yaml",
        {**names, "team-wine": namespace, "https://adb-1234567890123456.7.azuredatabricks.net": scene.platform.host},
    )
    return Identities(namespace, made)


@pytest.fixture
def azure(scene: Scene) -> Identities:
    """Applications with the example's role definitions, and examples/identity/roles-azureml.yaml."""
    scene.on("azureml")
    namespace, made = scene.namespace(), {}
    for role in ROLES:
        definition = json.loads((EXAMPLES / f"azure-role-{role}.json").read_text())
        made[role] = scene.control.add_application(f"{namespace}-{role}")
        scene.control.assign_custom_role(
            made[role], definition["Name"], definition["Actions"], definition["NotActions"]
        )
        subject = f"system:serviceaccount:{namespace}:azure-{role}"
        scene.control.add_federated_credential(made[role], scene.cluster.issuer, subject)
    scene.control.add_azure_compute("cpu-cluster", identities={"wine-reader": READER})
    names = {f"22222222-0000-0000-0000-00000000000{n}": made[role] for n, role in enumerate(ROLES, 1)}
    at = scene.control.address.azure
    target = {
        "cloud": AZURE_CLOUD,
        "tenantId": at.tenant_id,
        "subscriptionId": at.subscription_id,
        "resourceGroup": at.resource_group,
        "workspaceName": at.workspace_name,
    }
    applied(scene, "roles-azureml.yaml", {**names, "team-wine": namespace}, azureML=target)
    return Identities(namespace, made)


def ask(scene: Scene, principal: str, method: str, path: str, body: dict[str, Any] | None = None) -> int:
    """The status that Databricks answers a principal with."""
    answer = requests.request(
        method,
        f"{scene.platform.host}{path}",
        headers={"Authorization": f"Bearer {scene.control.issue_token(principal)}"},
        json=body,
        verify=str(scene.control.address.ca_file),
        timeout=30,
    )
    return answer.status_code


def ask_azure(scene: Scene, client_id: str, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
    """What Azure Resource Manager answers an application below the workspace."""
    at = scene.control.address.azure
    return requests.request(
        method,
        f"{at.workspace_url}{path}",
        params={"api-version": "2022-04-01" if path == PERMISSIONS else "2023-04-01"},
        headers={"Authorization": f"Bearer {scene.control.issue_azure_token(client_id, at.resource_manager)}"},
        json=body,
        verify=str(scene.control.address.ca_file),
        timeout=30,
    )


def workspaces_work(scene: Scene, identities: Identities, prefix: str = "") -> None:
    """Each of the three is ready, as its own principal."""
    for role in ROLES:
        scene.workspace(identities.namespace, "IdentityWorks", name=f"{prefix}{role}")
        status = scene.read("mlworkspaces", identities.namespace, f"{prefix}{role}")["status"]
        assert status["principal"] == identities.principals[role]


def test_training_on_databricks_runs_as_reader_and_lacks_what_the_others_may(
    scene: Scene, databricks: Identities
) -> None:
    workspaces_work(scene, databricks)
    run = scene.run(databricks.namespace, workspaceRef={"name": "training"}).until("Succeeded")
    identity = run.status["identity"]
    assert (identity["submittedAs"], identity["ranAs"]) == (
        databricks.principals["training"],
        databricks.principals["reader"],
    )
    models = "/api/2.1/unity-catalog/models"
    cluster = {"spark_version": "16.4.x-scala2.12", "node_type_id": "m5d.large", "num_workers": 0}
    told: dict[str, set[str]] = {}
    for role in ("reader", *ROLES):  # the first makes the model that the others are to load
        new = {"catalog_name": "main", "schema_name": "wine", "name": f"{databricks.namespace}-{role}"}
        asked = {
            "makes a model": ("POST", models, new),
            "loads a model": ("GET", f"{models}/main.wine.{databricks.namespace}-reader", None),
            "makes a cluster": ("POST", "/api/2.1/clusters/create", cluster),
        }
        principal = databricks.principals[role]
        told[role] = {what for what, each in asked.items() if ask(scene, principal, *each) == 200}
    assert told == {
        "training": set(),
        "reader": {"makes a model", "loads a model"},
        "deployment": {"loads a model"},
        "compute": {"makes a cluster"},
    }


@pytest.mark.parametrize(
    ("role", "reason"), [("deployment", "ComputeClassInvalid"), ("compute", "ComputeClassUnknown")]
)
def test_nothing_can_be_started_through_the_workspaces_of_the_other_roles(
    scene: Scene, databricks: Identities, role: str, reason: str
) -> None:
    """The one has a class for served models alone, the other none at all."""
    run = scene.run(databricks.namespace, workspaceRef={"name": role}).until("Stalled")
    assert run.reason == reason
    assert run.remote() == []


def test_training_on_azure_ml_runs_as_reader_and_lacks_what_the_others_may(scene: Scene, azure: Identities) -> None:
    workspaces_work(scene, azure, "azure-")
    run = scene.run(azure.namespace, workspaceRef={"name": "azure-training"}, compute={"class": "shared"})
    identity = run.until("Succeeded").status["identity"]
    assert (identity["submittedAs"], identity["ranAs"]) == (azure.principals["training"], READER)

    machines = {
        "location": scene.control.address.azure.region,
        "properties": {"computeType": "AmlCompute", "properties": {"vmSize": "Standard_DS3_v2"}},
    }
    refused = {role: ask_azure(scene, azure.principals[role], "PUT", COMPUTE, machines).status_code for role in ROLES}
    assert {role: status == 403 for role, status in refused.items()} == {
        "training": True,
        "deployment": True,
        "compute": False,
    }
    job = f"/jobs/{run.only_remote().id}"
    assert [ask_azure(scene, azure.principals[role], "GET", job).status_code for role in ROLES] == [200, 403, 403]


@pytest.mark.parametrize(
    ("action", "who"),
    [
        (needs.JOBS_WRITE, {"training"}),
        (needs.JOBS_CANCEL, {"training"}),
        (needs.CODE_WRITE, {"training", "deployment"}),
        (needs.MODEL_WRITE, {"training"}),
        (ENDPOINT, {"deployment"}),
        (ANY_COMPUTE, {"compute"}),
        ("Microsoft.MachineLearningServices/workspaces/write", set()),
        ("Microsoft.MachineLearningServices/workspaces/listKeys/action", set()),
        ("Microsoft.Authorization/roleAssignments/write", set()),
    ],
)
def test_an_action_belongs_to_the_roles_that_need_it(action: str, who: set[str]) -> None:
    """The role definitions beside the manifests, judged as the operator judges what Azure tells it of its own roles."""
    held = {role: json.loads((EXAMPLES / f"azure-role-{role}.json").read_text()) for role in ROLES}
    shown = {
        role: {"actions": definition["Actions"], "notActions": definition["NotActions"]}
        for role, definition in held.items()
    }
    assert {role for role in ROLES if permits(shown[role], action)} == who

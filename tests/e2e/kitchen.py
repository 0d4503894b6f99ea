"""What the cookbook's recipes find: a team with its workspace, repositories, a package index, files, jobs, secrets.

Everything that a user would have beside the manifests. Used by test_cookbook.py only.
"""

import base64
import io
import os
import shlex
import sys
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import requests
from databricks.sdk import WorkspaceClient
from databricks.sdk.service.workspace import ImportFormat

from stand import AUDIENCE, AZURE_CLOUD, ROOT, Stand, stand
from tests.e2e.recipes import FOLDER, NAMESPACE
from tests.e2e.scene import Scene
from tests.wire.git_server import Forge, Upstream, serve_git
from trainyard_localcluster import LocalCluster

HOST = "https://dbc-a1b2c3d4-e5f6.cloud.databricks.com"
CLIENT_ID = "11111111-2222-3333-4444-555555555555"
RUN_AS = "99999999-8888-7777-6666-555555555555"
AZURE_TENANT = "33333333-4444-5555-6666-777777777777"
AZURE_SUBSCRIPTION = "44444444-5555-6666-7777-888888888888"
AZURE_WORKSPACE = (
    f"/subscriptions/{AZURE_SUBSCRIPTION}/resourceGroups/ml/providers/Microsoft.MachineLearningServices/workspaces/wine"
)
AZURE_CLIENT_ID = "66666666-7777-8888-9999-000000000000"
MANAGED_IDENTITY = "88888888-9999-0000-1111-222222222222"
FLAGS = {"poll_seconds": "0.3", "settle_seconds": "2", "recheck_seconds": "1", "serving_poll_seconds": "0.5"}
TRAIN = 'import sys\n\nprint("trained", sys.argv[1:])\n'
WHEEL = "wine_train-1.4.0-py3-none-any.whl"
USER = "import sys\n\n\ndef main():\n    print('wine-train', sys.argv[1:])\n"


def wheel() -> bytes:
    """A wheel with the console script wine-train and the module wine_train.score."""
    info = "wine_train-1.4.0.dist-info"
    files = {
        "wine_train/__init__.py": "",
        "wine_train/cli.py": USER,
        "wine_train/score.py": "print('scored')\n",
        f"{info}/METADATA": "Metadata-Version: 2.1\nName: wine-train\nVersion: 1.4.0\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: cookbook\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/entry_points.txt": "[console_scripts]\nwine-train = wine_train.cli:main\n",
    }
    files[f"{info}/RECORD"] = "".join(f"{name},,\n" for name in [*files, f"{info}/RECORD"])
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return made.getvalue()


@dataclass
class Kitchen:
    """The team `cookbook` on a stand of its own, and its operator."""

    scene: Scene
    forge: Forge
    namespace: str
    trainer: str
    reader: str
    admin: str
    azure_trainer: str
    # What stands in the manifests, and what it is here.
    instead: dict[str, str] = field(default_factory=dict)

    @property
    def stand(self) -> Stand:
        return self.scene.stand

    def text(self, path: Path) -> str:
        """A manifest with this place's names in it."""
        text = path.read_text()
        for there, here in {**self.instead, **self._names()}.items():
            text = text.replace(there, here)
        return text

    def _names(self) -> dict[str, str]:
        azure = self.stand.address.azure
        return {
            AZURE_WORKSPACE: azure.workspace_scope,
            AZURE_SUBSCRIPTION: azure.subscription_id,
            f"tenantId: {AZURE_TENANT}": f"cloud: {AZURE_CLOUD}\n    tenantId: {azure.tenant_id}",
            "resourceGroup: ml": f"resourceGroup: {azure.resource_group}",
            "workspaceName: wine": f"workspaceName: {azure.workspace_name}",
            AZURE_CLIENT_ID: self.azure_trainer,
            HOST: self.stand.address.host,
            CLIENT_ID: self.trainer,
            RUN_AS: self.reader,
            "https://github.com/": f"https://{self.forge.host}/",
            "git-host: github.com/acme/wine-models-private": f"git-host: {self.forge.host}/acme/wine-models-private",
            NAMESPACE: self.namespace,
        }

    def client(self, principal: str | None = None) -> WorkspaceClient:
        """The vendor's own client, as the team's principal or another one."""
        token = self.stand.control.issue_token(principal or self.trainer)
        return WorkspaceClient(host=self.stand.address.host, token=token, auth_type="pat")

    def put_azure(self, path: str, version: str, body: dict[str, Any]) -> None:
        """A PUT below the Azure ML workspace, as the team's application."""
        azure = self.stand.address.azure
        token = self.stand.control.issue_azure_token(self.azure_trainer, azure.resource_manager)
        answer = requests.put(
            f"{azure.workspace_url}{path}",
            params={"api-version": version},
            headers={"Authorization": f"Bearer {token}"},
            json=body,
            timeout=30,
        )
        assert answer.status_code in (200, 201), answer.text

    def put_volume(self, path: str, content: bytes) -> None:
        """A file in a volume."""
        client = self.client()
        client.files.create_directory(path.rpartition("/")[0])
        client.files.upload(path, io.BytesIO(content), overwrite=True)

    def put_workspace(self, path: str, content: bytes) -> None:
        """A file in the workspace."""
        client = self.client()
        client.workspace.mkdirs(path.rpartition("/")[0])
        encoded = base64.b64encode(content).decode()
        client.workspace.import_(path, content=encoded, format=ImportFormat.AUTO, overwrite=True)

    def uploads(self) -> set[str]:
        """The folders of code that the operator has uploaded as the team's principal."""
        root = f"/Workspace/Users/{self.trainer}/.trainyard/code"
        return {
            folder.path or ""
            for cluster in self.client().workspace.list(root)
            for folder in self.client().workspace.list(cluster.path or "")
        }


def repositories(root: Path) -> None:
    """acme/wine-models, and acme/wine-models-private."""
    for name in ("wine-models", "wine-models-private"):
        path = root / "acme" / f"{name}.git"
        path.parent.mkdir(parents=True, exist_ok=True)
        upstream = Upstream(path)
        upstream.commit(
            {
                "training/train.py": TRAIN,
                "training/wine/__init__.py": "",
                "training/wine/train.py": TRAIN,
                "README.md": "outside of the folder that is uploaded",
            }
        )
        upstream.git("tag", "v1.4.0")
        upstream.git("push", "-q", "origin", "v1.4.0")


def fake_ssh(folder: Path, repositories: Path) -> None:
    """A program called ssh that runs the command here, where the repositories are."""
    folder.mkdir()
    program = folder / "ssh"
    command = shlex.join([sys.executable, str(ROOT / "tests/wire/git_ssh.py"), str(folder / "notes")])
    program.write_text(f'#!/bin/sh\ncd {shlex.quote(str(repositories))}\nexec {command} "$@"\n')
    program.chmod(0o755)


@contextmanager
def kitchen(cluster: LocalCluster, dir: Path, namespace: str = "cookbook") -> Iterator[Kitchen]:
    """Everything up and running, until the block ends."""
    git, index, programs = dir / "git", dir / "index", dir / "programs"
    git.mkdir()
    repositories(git)
    index.mkdir()
    (index / WHEEL).write_bytes(wheel())
    fake_ssh(programs, git)
    # The sandbox's pip knows one index, the folder; the operator's git finds that ssh.
    surroundings = {
        "PIP_NO_INDEX": "1",
        "PIP_FIND_LINKS": str(index),
        "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
    }
    with ExitStack() as stack:
        forge = stack.enter_context(serve_git(git))
        stack.enter_context(mock.patch.dict(os.environ, surroundings))
        on = stack.enter_context(stand(dir / "stand", "run", cluster))
        stack.enter_context(mock.patch.dict(os.environ, {"REQUESTS_CA_BUNDLE": str(on.address.ca_file)}))
        flags = {**FLAGS, "allowed_git_host": forge.host, "git_ca_file": str(forge.ca_file)}
        operator = stack.enter_context(on.operator("cookbook", **flags))
        scene = Scene(on, operator, "cookbook", flags)
        made = Kitchen(scene, forge, namespace, *_principals(on, namespace), _application(on, namespace))
        stack.callback(cluster.call, "DELETE", f"/api/v1/namespaces/{namespace}")
        for team in ("00-team", "40-azureml-team"):
            cluster.kubectl("apply", "-f", "-", input=made.text(FOLDER / f"{team}.yaml"))
        for workspace in ("databricks", "azureml"):
            scene.workspace(namespace, "IdentityWorks", workspace)
        yield made
        scene.operator.check()


def _principals(on: Stand, namespace: str) -> tuple[str, str, str]:
    """The identity that submits, with all that the recipes need, the one that one of them runs as, and an admin."""
    reader = on.control.add_principal(f"{namespace}-reader", entitlements=["workspace-access"])
    trainer = on.control.add_principal(
        f"{namespace}-trainer",
        entitlements=["workspace-access", "allow-cluster-create"],
        grants=_grants(),
    )
    admin = on.control.add_principal("admin", groups=["admins"], entitlements=["workspace-access"])
    on.control.grant_role(trainer, reader)
    subject = f"system:serviceaccount:{namespace}:trainer"
    on.control.add_policy(trainer, on.cluster.issuer, subject, [AUDIENCE])
    for volume in ("code", "data", "logs"):
        on.control.add_volume(f"main.wine.{volume}")
        on.control.grant(trainer, f"main.wine.{volume}", "READ VOLUME", "WRITE VOLUME")
    on.control.add_table("main.wine.labels", {"wine": "string", "kind": "int"})
    on.control.grant(trainer, "main.wine.labels", "SELECT")
    return trainer, reader, admin


def _application(on: Stand, namespace: str) -> str:
    """The application that submits to Azure ML, in a workspace that has what the team's manifest names."""
    trainer = on.control.add_application(f"{namespace}-trainer", roles={"workspace": ["AzureML Data Scientist"]})
    subject = f"system:serviceaccount:{namespace}:azure-trainer"
    on.control.add_federated_credential(trainer, on.cluster.issuer, subject)
    on.control.add_datastore("lake", "lake")
    on.control.add_azure_compute("cpu-cluster", identities={"wine-reader": MANAGED_IDENTITY})
    return trainer


def _grants() -> Mapping[str, list[str]]:
    return {
        "main": ["USE CATALOG"],
        "main.wine": ["USE SCHEMA", "CREATE MODEL"],
        "main.finance": ["USE SCHEMA"],
    }

"""What is prepared before a run starts: source and notebooks, jobs that are named, rights of the run-as identity."""

import base64
import json
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from tests.wire.conftest import Trail
from tests.wire.jobs import job
from trainyard.audit.context import audit_context
from trainyard.core.errors import Denied, Missing, Unreachable
from trainyard.platforms.base import Request, RunsAs
from trainyard.platforms.databricks import uploads
from trainyard.platforms.databricks.connection import DatabricksConnection
from trainyard.platforms.databricks.translate import translate
from trainyard.platforms.parallel import AT_ONCE
from trainyard_sandbox.client import SandboxControl

IMPORT = "/api/2.0/workspace/import"
SUBMIT = "/api/2.2/jobs/runs/submit"
NOTEBOOK = b"# Databricks notebook source\nprint('cell')\n"
IPYNB = json.dumps(
    {
        "cells": [{"cell_type": "code", "source": "1", "metadata": {}, "outputs": [], "execution_count": None}],
        "metadata": {"language_info": {"name": "python"}},
        "nbformat": 4,
        "nbformat_minor": 5,
    }
).encode()

Make = Callable[..., Request]


@pytest.fixture
def request_of(control: SandboxControl, principal: str) -> Make:
    def build(files: dict[str, bytes] | None = None, notebooks: frozenset[str] = frozenset(), **fields: Any) -> Request:
        uid = f"{time.time_ns():032x}"
        made = translate(job(f"print({uid!r})", host=control.address.host, principal=principal, uid=uid))
        chosen = made.files if files is None else {**files, "main.py": uid.encode()}
        return replace(made, files=chosen, notebooks=notebooks, **fields)

    return build


def upload(connection: DatabricksConnection, request: Request, seconds: float = 60.0) -> None:
    connection._uploads.upload(request, time.monotonic() + seconds)


def status(connection: DatabricksConnection, path: str) -> dict[str, Any]:
    return connection._client.do("GET", "/api/2.0/workspace/get-status", query={"path": path})


def test_files_lie_below_their_folders_and_notebooks_have_no_suffix(
    connection: DatabricksConnection, request_of: Make
) -> None:
    files = {"pkg/sub/a.py": b"A = 1\n", "pkg/plain.py": NOTEBOOK, "nb/clean.py": NOTEBOOK, "nb/fit.ipynb": IPYNB}
    request = request_of(files, frozenset({"nb/clean.py", "nb/fit.ipynb"}))
    upload(connection, request)
    kinds = {
        "pkg": "DIRECTORY",
        "pkg/sub/a.py": "FILE",
        # It has a notebook's header, and was asked for as a file all the same.
        "pkg/plain.py": "FILE",
        "nb/clean": "NOTEBOOK",
        "nb/fit": "NOTEBOOK",
    }
    for path, kind in kinds.items():
        assert status(connection, f"{request.code_folder}/{path}")["object_type"] == kind
    for path in ("nb/clean.py", "nb/fit.ipynb"):
        with pytest.raises(Missing):
            status(connection, f"{request.code_folder}/{path}")


def test_what_is_complete_is_not_uploaded_again_and_other_kinds_are(
    connection: DatabricksConnection, request_of: Make, control: SandboxControl
) -> None:
    request = request_of({"nb.py": NOTEBOOK, "other.py": b"1"})
    upload(connection, request)
    control.clear_requests()
    upload(connection, request)
    assert not control.requests(path=IMPORT)
    # The same files in the same folder, but one of them has to be a notebook now.
    upload(connection, replace(request, notebooks=frozenset({"nb.py"})))
    assert status(connection, f"{request.code_folder}/nb")["object_type"] == "NOTEBOOK"


def test_an_upload_that_was_interrupted_goes_on_and_is_never_taken_for_complete(
    connection: DatabricksConnection, request_of: Make, control: SandboxControl, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uploads, "PART", 5)
    request = request_of({f"f{n:02}.py": f"n = {n}".encode() for n in range(12)})
    parts = [uploads.items(request.files, ())[start : start + 5] for start in range(0, 13, 5)]
    sent: list[str] = []
    real = connection._uploads._import_one

    def import_one(body: Any) -> None:
        if body["path"].endswith(uploads.marker(parts[1])):
            raise Unreachable("the operator was killed")
        sent.append(body["path"])
        real(body)

    monkeypatch.setattr(connection._uploads, "_import_one", import_one)
    with pytest.raises(Unreachable):
        upload(connection, request)
    assert len(sent) == 5 + 1 + 5
    monkeypatch.setattr(connection._uploads, "_import_one", real)
    control.clear_requests()
    upload(connection, request)
    # The first part is complete; the second, all of whose files are there but not its marker, is sent again.
    assert len(control.requests(path=IMPORT)) == 5 + 1 + 3 + 1
    assert status(connection, f"{request.code_folder}/f11.py")["object_type"] == "FILE"


def test_500_files_are_up_in_time_several_at_once_each_on_record(
    connection: DatabricksConnection, request_of: Make, control: SandboxControl, audit: Trail
) -> None:
    request = request_of({f"d{n % 7}/f{n}.py": str(n).encode() for n in range(499)})
    control.clear_requests()
    with audit_context(action="submit"):
        upload(connection, request)
    assert len(control.requests(path=IMPORT)) == 500 + 5
    records = [each for each in audit.records() if each.get("path") == IMPORT and each["event"] == "request"]
    assert {each["action"] for each in records} == {"submit"}


def test_an_upload_that_takes_too_long_starts_nothing(
    connection: DatabricksConnection, request_of: Make, control: SandboxControl
) -> None:
    control.clear_requests()
    with pytest.raises(Unreachable, match="takes too long"):
        upload(connection, request_of({"a.py": b"1"}), -1.0)
    assert not control.requests(path=IMPORT)


def test_the_first_error_of_an_upload_is_told_and_nothing_more_is_begun(
    connection: DatabricksConnection, request_of: Make, control: SandboxControl
) -> None:
    control.add_fault("status", IMPORT, status=403, times=0)
    control.clear_requests()
    with pytest.raises(Denied):
        upload(connection, request_of({f"f{n}.py": b"1" for n in range(90)}))
    assert len(control.requests(path=IMPORT)) <= 2 * AT_ONCE


def test_nothing_is_uploaded_for_a_request_without_files_and_no_mlflow_run_made_without_an_experiment(
    connection: DatabricksConnection, request_of: Make, control: SandboxControl
) -> None:
    request = request_of()
    upload(connection, request)
    control.clear_requests()
    submitted = connection.submit(replace(request, files={}, experiment=None))
    assert submitted.mlflow_run_id is None
    assert [each["path"] for each in control.requests()] == [SUBMIT]


@pytest.fixture
def saved(connection: DatabricksConnection) -> Callable[[str], int]:
    def create(name: str) -> int:
        content = base64.b64encode(b"print('a job')").decode()
        path = f"/Users/{connection._principal}/{time.time_ns()}.py"
        body = {"path": path, "content": content, "format": "RAW"}
        connection._uploads.mkdirs(path.rpartition("/")[0])
        connection._client.do("POST", IMPORT, body=body)
        task = {
            "task_key": "only",
            "environment_key": "e",
            "spark_python_task": {"python_file": f"/Workspace{path}", "source": "WORKSPACE"},
        }
        environment = {"environment_key": "e", "spec": {"environment_version": "4"}}
        made = connection._client.do(
            "POST", "/api/2.2/jobs/create", body={"name": name, "tasks": [task], "environments": [environment]}
        )
        return int(made["job_id"])

    return create


def running(request: Request, name: str) -> Request:
    """The request, but with a named job in the place of its task."""
    (task,) = request.body["tasks"]
    body = {key: value for key, value in request.body.items() if not key.startswith("environment")}
    body["tasks"] = [{"task_key": task["task_key"], "run_job_task": {}}]
    return replace(request, body=body, files={}, experiment=None, jobs={task["task_key"]: name})


def test_a_job_that_is_named_is_found_and_run(
    connection: DatabricksConnection, request_of: Make, saved: Callable[[str], int]
) -> None:
    name = f"nightly {time.time_ns()}"
    job_id = saved(name)
    # Names differ in case only, which the platform's filter does not tell apart.
    saved(name.upper())
    submitted = connection.submit(running(request_of(), name))
    run = connection._client.do("GET", "/api/2.2/jobs/runs/get", query={"run_id": submitted.remote_id})
    assert run["tasks"][0]["run_job_task"]["job_id"] == job_id


def test_a_job_that_is_not_there_or_not_the_only_one_waits_for_a_person(
    connection: DatabricksConnection, request_of: Make, saved: Callable[[str], int], control: SandboxControl
) -> None:
    name = f"twins {time.time_ns()}"
    control.clear_requests()
    with pytest.raises(Missing) as absent:
        connection.submit(running(request_of(), name))
    assert (absent.value.reason, "spec.jobRef.name" in absent.value.message) == ("JobNotFound", True)
    ids = sorted([saved(name), saved(name)])
    with pytest.raises(Missing) as twice:
        connection.submit(running(request_of(), name))
    assert twice.value.reason == "JobAmbiguous"
    assert all(str(each) in twice.value.message for each in ids)
    assert not control.requests(path=SUBMIT)


def test_the_run_as_identity_is_given_the_source_and_the_experiment_once(
    connection: DatabricksConnection, request_of: Make, control: SandboxControl, principal: str
) -> None:
    runner = control.add_principal("runner")
    control.grant(principal, f"servicePrincipals/{runner}", "roles/servicePrincipal.user")
    request = request_of(runs_as=RunsAs("service_principal", runner))
    request = replace(request, body={**request.body, "run_as": {"service_principal_name": runner}})
    connection.submit(request)
    folder = status(connection, request.code_folder)["object_id"]
    experiment = connection._mlflow.experiment(request.experiment or "")
    for where, level in ((f"directories/{folder}", "CAN_READ"), (f"experiments/{experiment}", "CAN_EDIT")):
        shown = connection._client.do("GET", f"/api/2.0/permissions/{where}")["access_control_list"]
        mine = [row for row in shown if row.get("service_principal_name") == runner]
        assert [each["permission_level"] for row in mine for each in row["all_permissions"]] == [level]
    control.clear_requests()
    connection.submit(request)
    assert not control.requests(method="PATCH")


def test_rights_that_can_not_be_given_wait_for_a_person_with_the_command(
    connection: DatabricksConnection, request_of: Make, control: SandboxControl
) -> None:
    runner = control.add_principal("runner")
    request = request_of(runs_as=RunsAs("service_principal", runner))
    control.add_fault("status", "/api/2.0/permissions/directories/.*", method="PATCH", status=403)
    with pytest.raises(Denied) as raised:
        connection.submit(request)
    assert "databricks permissions update directories" in raised.value.message
    assert runner in raised.value.message


def test_an_access_list_that_is_not_ours_to_see_is_left_alone(
    connection: DatabricksConnection, request_of: Make, control: SandboxControl, principal: str
) -> None:
    runner = control.add_principal("runner")
    control.grant(principal, f"servicePrincipals/{runner}", "roles/servicePrincipal.user")
    request = request_of(runs_as=RunsAs("service_principal", runner))
    control.add_fault("status", "/api/2.0/permissions/experiments/.*", method="GET", status=403)
    control.clear_requests()
    connection.submit(request)
    assert [each["path"].split("/")[4] for each in control.requests(method="PATCH")] == ["directories"]

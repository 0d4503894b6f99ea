"""Pipeline jobs of the sandbox's Azure ML workspace: steps that really run, and pass on what they make."""

from __future__ import annotations

import subprocess
import uuid
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
import requests

from trainyard_sandbox.client import SandboxControl

from .azure_fixtures import Arm
from .conftest import wait_until

if TYPE_CHECKING:
    from azure.ai.ml import MLClient

PUT, GET = "2025-01-01-preview", "2024-01-01-preview"
ENVIRONMENT = "azureml://registries/azureml/environments/sklearn-1.5/versions/1"
HISTORY = "/history/v1.0"


def component_body(command: str, **spec: Any) -> dict[str, Any]:
    fields = {"type": "command", "command": command, "environment": ENVIRONMENT, **spec}
    return {"properties": {"componentSpec": fields}}


@pytest.fixture
def component(data_scientist: str, arm: Arm, control: SandboxControl) -> Callable[..., str]:
    """Make a command component; returns its resource id."""

    def make(command: str, **spec: Any) -> str:
        name = f"step-{uuid.uuid4().hex[:8]}"
        path = f"/components/{name}/versions/1"
        made = arm(data_scientist, "PUT", path, version="2024-10-01-preview", json=component_body(command, **spec))
        assert made.status_code == 201, made.text
        azure = control.address.azure
        return f"{azure.workspace_scope}{path}"

    return make


@pytest.fixture
def submit(data_scientist: str, arm: Arm) -> Callable[..., tuple[str, requests.Response]]:
    """Submit a pipeline of steps; returns its name and the answer."""

    def put(jobs: dict[str, Any], **properties: Any) -> tuple[str, requests.Response]:
        name = f"pipeline-{uuid.uuid4().hex[:8]}"
        body = {"jobType": "Pipeline", "experimentName": "steps", "jobs": jobs, **properties}
        return name, arm(data_scientist, "PUT", f"/jobs/{name}", version=PUT, json={"properties": body})

    return put


def step(component_id: str, **fields: Any) -> dict[str, Any]:
    return {"type": "command", "componentId": component_id, **fields}


def value(text: str) -> dict[str, str]:
    return {"job_input_type": "literal", "value": text}


def ended(arm: Arm, client_id: str, name: str) -> Any:
    def look() -> Any:
        run = arm(client_id, "GET", f"/runs/{name}", plane=HISTORY).json()
        return run if run["status"] in ("Completed", "Failed", "Canceled") else None

    return wait_until(look, 120, every=0.2)


def steps_of(arm: Arm, client_id: str, name: str) -> dict[str, str]:
    """Status by name of the steps that have begun."""
    children = arm(client_id, "GET", f"/runs/{name}/children", plane=HISTORY).json()["value"]
    return {child["displayName"]: child["status"] for child in children}


def test_a_step_begins_when_its_inputs_are_there_and_reads_what_others_made(
    control: SandboxControl,
    component: Callable[..., str],
    submit: Callable[..., tuple[str, requests.Response]],
    data_scientist: str,
    arm: Arm,
) -> None:
    words = {"inputs": {"word": {"type": "string"}}, "outputs": {"made": {"type": "uri_folder"}}}
    make = component("echo ${{inputs.word}} > ${{outputs.made}}/word.txt", **words)
    join = component(
        "cat ${{inputs.first}}/word.txt ${{inputs.second}}/word.txt; echo $MORE",
        inputs={"first": {"type": "uri_folder"}, "second": {"type": "uri_folder"}},
    )
    bound = {
        "first": value("${{parent.jobs.left.outputs.made}}"),
        "second": value("${{parent.jobs.right.outputs.made}}"),
    }
    name, submitted = submit(
        {
            "join": step(join, inputs=bound, environment_variables={"MORE": "done"}),
            "left": step(make, inputs={"word": value("${{parent.inputs.greeting}}")}),
            "right": step(make, inputs={"word": value("world")}),
        },
        inputs={"greeting": {"jobInputType": "literal", "value": "hello"}},
    )
    assert submitted.status_code == 201, submitted.text
    assert ended(arm, data_scientist, name)["status"] == "Completed"
    assert steps_of(arm, data_scientist, name) == {"left": "Completed", "right": "Completed", "join": "Completed"}
    children = arm(data_scientist, "GET", f"/runs/{name}/children", plane=HISTORY).json()["value"]
    last = next(child for child in children if child["displayName"] == "join")
    assert last["startTimeUtc"] >= max(child["endTimeUtc"] for child in children if child is not last)
    assert (last["parentRunId"], last["rootRunId"]) == (name, name)
    assert logs(control, arm, data_scientist, last["runId"]) == "hello\nworld\ndone\n"
    shown = arm(data_scientist, "GET", f"/jobs/{last['runId']}", version=GET).json()
    assert shown["properties"] is None  # as azure-ai-ml knows a pipeline's child


def logs(control: SandboxControl, arm: Arm, client_id: str, run_id: str) -> str:
    details = arm(client_id, "GET", f"/runs/{run_id}/details", plane=HISTORY, control=control).json()
    url = details["logFiles"].get("user_logs/std_log.txt")
    if url is None:
        return ""
    return requests.get(url, verify=str(control.address.ca_file), timeout=10).text


@pytest.mark.parametrize(
    ("settings", "others"),
    [({}, {"long": "Canceled"}), ({"continue_on_step_failure": True}, {"long": "Completed", "after": "Completed"})],
)
def test_a_failed_step_stops_the_pipeline_unless_it_is_to_continue(
    component: Callable[..., str],
    submit: Callable[..., tuple[str, requests.Response]],
    data_scientist: str,
    arm: Arm,
    settings: dict[str, Any],
    others: dict[str, str],
) -> None:
    outputs = {"outputs": {"made": {"type": "uri_folder"}}}
    fails = component("exit 3", **outputs)
    takes_long = component("sleep 4; touch ${{outputs.made}}/there", **outputs)
    reads = component("true # ${{inputs.made}}", inputs={"made": {"type": "uri_folder"}})
    name, submitted = submit(
        {
            "fails": step(fails),
            "long": step(takes_long),
            "after": step(reads, inputs={"made": value("${{parent.jobs.long.outputs.made}}")}),
            "never": step(reads, inputs={"made": value("${{parent.jobs.fails.outputs.made}}")}),
        },
        settings=settings,
    )
    assert submitted.status_code == 201, submitted.text
    run = ended(arm, data_scientist, name)
    assert run["status"] == "Failed"
    assert "because of its steps: fails." in run["error"]["error"]["message"]
    assert steps_of(arm, data_scientist, name) == {"fails": "Failed"} | others


def test_the_clients_own_pipeline_runs(
    control: SandboxControl, data_scientist: str, arm: Arm, ml_client: Callable[..., MLClient]
) -> None:
    client = ml_client(data_scientist)
    from azure.ai.ml import Input, Output, command, dsl

    make = command(
        name="make",
        command="echo ${{inputs.word}} > ${{outputs.made}}/word.txt",
        environment=ENVIRONMENT,
        inputs={"word": Input(type="string")},
        outputs={"made": Output(type="uri_folder")},
    )
    show = command(
        name="show",
        command="cat ${{inputs.made}}/word.txt",
        environment=ENVIRONMENT,
        inputs={"made": Input(type="uri_folder")},
    )

    @dsl.pipeline(name="words", default_compute="serverless")  # type: ignore[untyped-decorator]
    def words(word):  # type: ignore[no-untyped-def] # it takes an annotation for a type of Azure ML
        made = make(word=word)
        show(made=made.outputs.made)

    job = words(word="hello")
    job.experiment_name = "steps"
    submitted = client.jobs.create_or_update(job)
    assert ended(arm, data_scientist, submitted.name)["status"] == "Completed"
    read = client.jobs.get(submitted.name)
    assert (read.status, sorted(read.jobs)) == ("Completed", ["made", "show"])
    children = {child.display_name: child for child in client.jobs.list(parent_job_name=submitted.name)}
    assert sorted(children) == ["made", "show"]
    assert logs(control, arm, data_scientist, children["show"].name) == "hello\n"


def test_cancelling_a_pipeline_cancels_its_steps(
    component: Callable[..., str],
    submit: Callable[..., tuple[str, requests.Response]],
    data_scientist: str,
    arm: Arm,
) -> None:
    name, _ = submit({"long": step(component("sleep 600"))})
    wait_until(lambda: steps_of(arm, data_scientist, name) == {"long": "Running"})
    arm(data_scientist, "POST", f"/jobs/{name}/cancel", version="2023-04-01-preview")
    assert ended(arm, data_scientist, name)["status"] == "Canceled"
    assert steps_of(arm, data_scientist, name) == {"long": "Canceled"}


def test_what_a_pipeline_cannot_do_is_refused_by_name(
    component: Callable[..., str], submit: Callable[..., tuple[str, requests.Response]]
) -> None:
    reads = component(
        "cat ${{inputs.made}}",
        inputs={"made": {"type": "uri_folder"}},
        outputs={"made": {"type": "uri_folder"}},
    )
    cases: list[tuple[dict[str, Any], dict[str, Any], str]] = [
        ({}, {}, "at least one step"),
        ({"a": step(reads) | {"type": "sweep"}}, {}, "supports steps of type command"),
        ({"a": step(reads + "0")}, {}, "was not found"),
        ({"a": step(reads)}, {}, "properties.jobs.a.inputs.made: the component needs this input"),
        ({"a": step(reads, inputs={"x": value("1")})}, {}, "the component has no such input"),
        ({"a": step(reads, inputs={"made": value("${{parent.inputs.x}}")})}, {}, "there is no parent.inputs.x"),
        ({"a": step(reads, inputs={"made": value("${{parent.jobs.b.outputs.x}}")})}, {}, "there is no step b"),
        ({"a": step(reads, inputs={"made": value("${{parent.jobs.a.outputs.made}}")})}, {}, "wait for each other"),
        ({"a": step(reads, inputs={"made": value("${{parent.name}}")})}, {}, "this sandbox supports ${{parent.inputs"),
        ({"a": step(reads, colour="red")}, {}, "colour"),
        ({"a": step(reads)}, {"settings": {"default_datastore": "other"}}, "default_datastore"),
        ({"a": step(reads)}, {"componentId": reads}, "does not support properties.componentId"),
    ]
    for jobs, properties, sentence in cases:
        _, answer = submit(jobs, **properties)
        assert answer.status_code == 400, sentence
        assert sentence in answer.json()["error"]["message"]


def test_a_component_keeps_what_it_runs(data_scientist: str, arm: Arm, component: Callable[..., str]) -> None:
    path = component("true").partition("/workspaces/")[2].partition("/")[2]

    def put(**spec: Any) -> requests.Response:
        body = {"componentSpec": {"type": "command", "command": "true", "environment": ENVIRONMENT, **spec}}
        return arm(data_scientist, "PUT", f"/{path}", version="2024-10-01-preview", json={"properties": body})

    assert put().status_code == 200
    assert put(command="false").status_code == 409
    assert (
        put(type="pipeline").json()["error"]["message"].startswith("This sandbox supports components of type command")
    )
    shown = arm(data_scientist, "GET", f"/{path}", version="2024-10-01-preview").json()
    assert shown["properties"]["componentSpec"]["command"] == "true"


def test_a_sandbox_ends_while_a_pipeline_waits_for_a_step_that_is_slow_to_stop(
    serve: Callable[..., tuple[SandboxControl, subprocess.Popen[bytes]]],
    arm: Arm,
) -> None:
    control, process = serve()
    client_id = control.add_application("trainer", roles={"workspace": ["AzureML Data Scientist"]})
    body = component_body("trap '' TERM; echo ready; while true; do sleep 1; done")
    path = "/components/slow/versions/1"
    assert arm(client_id, "PUT", path, version="2024-10-01-preview", json=body, control=control).status_code == 201
    slow = step(control.address.azure.workspace_scope + path)
    job = {"properties": {"jobType": "Pipeline", "jobs": {"slow": slow}}}
    assert arm(client_id, "PUT", "/jobs/pipe", version=PUT, json=job, control=control).status_code == 201
    child = wait_until(lambda: [entry["name"] for entry in control.azure_jobs() if entry["name"] != "pipe"])[0]
    wait_until(lambda: logs(control, arm, client_id, child) == "ready\n")
    arm(client_id, "POST", "/jobs/pipe/cancel", version="2023-04-01-preview", control=control)
    process.terminate()
    assert process.wait(30) == 0

"""`trainyard lineage`: what made a served model, and where a run's model is served. Called by serving_verbs.py."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from trainyard.cli.exits import Exit
from trainyard.cli.options import Form, Where
from trainyard.cli.session import perform
from trainyard.cli.terminal import plain, say, tell
from trainyard.client import Deployment, Trainyard
from trainyard.client.lineage import Made, RunLineage, ServedVersion

Node = tuple[str, list["Node"]]
"""A line, and what stands below it."""


def lineage(where: Where, kind: str, name: str | None, all_namespaces: bool, output: Form) -> None:
    """`trainyard lineage`. `kind` is run or deployment; without a name it is of every deployment."""

    def verb(yard: Trainyard) -> Exit:
        if kind == "run" and name is not None:
            found = yard.lineage_of_run(name, all_namespaces=all_namespaces)
            _show(output, run_document(found), [run_node(found)])
            return Exit.OK
        deployments = (yard.deployment(name),) if name else yard.deployments(all_namespaces=all_namespaces)
        if not deployments and output is Form.table:
            say("no deployments" if all_namespaces else f"no deployments in namespace {yard.namespace}")
            return Exit.OK
        traced = [(each, yard.lineage(each)) for each in deployments]
        documents = [deployment_document(*each) for each in traced]
        _show(output, documents[0] if name else documents, [deployment_node(*each) for each in traced])
        return Exit.OK

    perform(where, verb)


def _show(output: Form, document: Any, nodes: Sequence[Node]) -> None:
    if output is Form.json:
        tell(json.dumps(document, indent=2, ensure_ascii=False))
        return
    for node in nodes:
        for line in drawn(node):
            tell(plain(line))


def drawn(node: Node) -> Iterator[str]:
    """The node and what is below it, a line each, with the branches of a tree."""
    text, below = node
    yield text
    for number, child in enumerate(below, 1):
        last = number == len(below)
        lines = drawn(child)
        yield f"{'└─' if last else '├─'} {next(lines)}"
        yield from (f"{'  ' if last else '│ '} {line}" for line in lines)


def deployment_node(deployment: Deployment, served: Sequence[ServedVersion]) -> Node:
    """A deployment, and below it what it serves."""
    title = "  ".join(_known(f"deployment/{deployment.name}", deployment.namespace, deployment.phase, deployment.url))
    below: list[Node] = [("workspace  " + workspace_of(deployment), [])]
    below += [(_share(each), _made(each.made)) for each in served]
    return title, below


def run_node(found: RunLineage) -> Node:
    """A run, and below it what made its model, and what serves it."""
    state = found.made.phase if found.made.there else "deleted"
    below: list[Node] = [(f"model      {found.model} version {found.version}" if found.model else "no model yet", [])]
    below += [node for node in _made(found.made) if not node[0].startswith("run ")]
    served: list[Node] = [
        (f"deployment/{each.deployment.name}  {each.deployment.namespace}  {_share(each)}", [])
        for each in found.served_by
    ]
    below.append(("served by", served) if served else ("served by nothing that was looked at", []))
    return "  ".join(_known(f"run/{found.name}", found.namespace, state)), below


def workspace_of(deployment: Deployment) -> str:
    """The workspace and where it is."""
    reference, endpoint = deployment.spec.workspace_ref, deployment.status.endpoint
    return f"{reference.kind}/{reference.name}" + (f"  {endpoint.host}" if endpoint else "")


def _share(each: ServedVersion) -> str:
    version = f"{each.model} version {each.version}" if each.model else "a model that is not known"
    shares = f"{each.served_traffic} %"
    if each.served_traffic != each.desired_traffic:
        shares += f" of {each.desired_traffic} %"
    return f"{each.name}  {version}  {shares}  {each.state}"


def _made(made: Made) -> list[Node]:
    lines: list[Node] = []
    if made.run:
        state = (made.phase or "new") if made.there else "deleted"
        lines.append((f"run        {made.run} ({state})" + (f"  {made.page}" if made.page else ""), []))
    elif made.mlflow_run_id:
        lines.append((f"run        MLflow run {made.mlflow_run_id}, of nothing that Trainyard started", []))
    code = _known(made.source, made.commit and f"commit {made.commit}", made.code_digest)
    if code:
        lines.append(("code       " + "  ".join(code), []))
    lines += [(f"data       {each.name}  {each.place}", []) for each in made.data]
    person = _known(
        made.requested_by and f"asked for by {made.requested_by}",
        made.submitted_as and f"submitted as {made.submitted_as}",
    )
    if person:
        lines.append(("person     " + ", ".join(person), []))
    if made.workspace:
        lines.append((f"trained in {made.workspace}", []))
    return lines or [("not known: the version was not registered by a run of Trainyard", [])]


def _known(*parts: str | None) -> list[str]:
    return [part for part in parts if part]


def deployment_document(deployment: Deployment, served: Sequence[ServedVersion]) -> dict[str, Any]:
    """A deployment as `-o json` has it; keys are only ever added."""
    endpoint, reference = deployment.status.endpoint, deployment.spec.workspace_ref
    return {
        "deployment": deployment.name,
        "namespace": deployment.namespace,
        "phase": deployment.phase,
        "url": deployment.url,
        "workspace": {
            "kind": reference.kind,
            "name": reference.name,
            "platform": endpoint.platform if endpoint else None,
            "host": endpoint.host if endpoint else None,
        },
        "served": [_served_document(each) for each in served],
    }


def run_document(found: RunLineage) -> dict[str, Any]:
    """A run as `-o json` has it; keys are only ever added."""
    return {
        "run": found.name,
        "namespace": found.namespace,
        "model": found.model,
        "version": found.version,
        "made": _made_document(found.made),
        "servedBy": [
            {
                "deployment": each.deployment.name,
                "namespace": each.deployment.namespace,
                "url": each.deployment.url,
                **{key: value for key, value in _served_document(each).items() if key != "made"},
            }
            for each in found.served_by
        ],
    }


def _served_document(each: ServedVersion) -> dict[str, Any]:
    return {
        "name": each.name,
        "served": each.served,
        "model": each.model,
        "version": each.version,
        "state": each.state,
        "desiredTraffic": each.desired_traffic,
        "servedTraffic": each.served_traffic,
        "made": _made_document(each.made),
    }


def _made_document(made: Made) -> dict[str, Any]:
    return {
        "run": made.run,
        "uid": made.uid,
        "there": made.there,
        "phase": made.phase,
        "page": made.page,
        "mlflowRunId": made.mlflow_run_id,
        "code": {"source": made.source, "commit": made.commit, "digest": made.code_digest},
        "data": [asdict(each) for each in made.data],
        "person": {"requestedBy": made.requested_by, "submittedAs": made.submitted_as},
        "workspace": made.workspace,
    }

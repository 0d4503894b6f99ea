"""What the documentation promises: everything a reader meets is explained, and nothing is explained that is not there.

Reads the pages under docs/, the pages at the root, and examples/. docs/reference is generated; `make check` guards it.
"""

import ast
import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from pydantic import BaseModel

from trainyard.api.model_deployment import ModelDeploymentSpec
from trainyard.api.training_run import MLTrainingRunSpec
from trainyard.api.workspace import ClusterMLWorkspaceSpec, MLWorkspaceSpec
from trainyard.cli.main import app
from trainyard.core.conditions import TRUE_IN, TYPES
from trainyard.core.decide import IN_STAGE
from trainyard.core.remote import End
from trainyard.core.serving import conditions as serving
from trainyard.core.stops import STOP_PHASE
from trainyard.platforms.databricks.answers import ALREADY_EXISTS

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "operator" / "trainyard"
DOCS = ROOT / "docs"
WRITTEN = [page for page in sorted(DOCS.rglob("*.md")) if page.parent.name != "reference"]
PAGES = [*sorted(ROOT.glob("*.md")), *sorted(DOCS.rglob("*.md")), *sorted((ROOT / "sandbox").glob("*.md"))]
SPECS: dict[str, type[BaseModel]] = {
    "MLTrainingRun": MLTrainingRunSpec,
    "ModelDeployment": ModelDeploymentSpec,
    "MLWorkspace": MLWorkspaceSpec,
    "ClusterMLWorkspace": ClusterMLWorkspaceSpec,
}
CAMEL = re.compile(r"[A-Z][a-z]+(?:[A-Z][a-z]+)+")
# Reasons that no one ever reads: bases of the error tree whose every use names its own, and one of no rule's concern.
NEVER_SHOWN = {"Error", "PlatformError", "IdentityFailed", "SourceFailed", "NotNeeded"}


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


@cache
def text(page: str) -> str:
    return (DOCS / page).read_text()


def rows(page: str, section: str = "") -> Iterator[list[str]]:
    """The cells of every table row of a page, or of the part of it that begins with that heading."""
    body = text(page)
    if section:
        level = section.split(" ", 1)[0]
        body = f"\n{body}".split(f"\n{section}\n", 1)[1]
        body = re.split(rf"\n#{{1,{len(level)}}} ", body, maxsplit=1)[0]
    for line in body.splitlines():
        if line.startswith("|") and not line.startswith("|---"):
            yield [cell.strip() for cell in line.strip("|").split("|")]


def quoted(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def first_cells(page: str, section: str) -> set[str]:
    """What the first column names between backticks."""
    return {word for row in rows(page, section) for word in quoted(row[0])}


def calls_of(tree: ast.AST) -> Iterator[tuple[str, ast.Call]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield str(getattr(node.func, "id", "") or getattr(node.func, "attr", "")), node


def constant(node: ast.AST) -> str | None:
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else None


def sources() -> Iterator[tuple[Path, ast.Module]]:
    for path in sorted(SOURCE.rglob("*.py")):
        yield path, ast.parse(path.read_text())


# Where the reason stands among the arguments of what is written into a status or an Event.
REASON_AT = {
    "Blocked": 0,
    "Verdict": 1,
    "Note": 1,
    "enter": 2,
    "_meaning": 1,
    "Wrong": 0,
    "_person": 1,
    "_delete": 2,
    "_delete_and_unpin": 1,
}
# Their reasons stand in the message of the Event LogsNotKept and in the log, and are no one's reason.
NO_REASONS_OF_RUNS = SOURCE / "keeping"
# A platform's own Verdict (platforms/failures.py) has advice in that place.
ADVICE = SOURCE / "platforms"


def reasons_in(path: Path, tree: ast.Module) -> Iterator[str | None]:
    reason_at = {name: at for name, at in REASON_AT.items() if name != "Verdict" or not path.is_relative_to(ADVICE)}
    for name, call in calls_of(tree):
        yield from (constant(keyword.value) for keyword in call.keywords if keyword.arg == "reason")
        if name in reason_at and len(call.args) > reason_at[name]:
            yield constant(call.args[reason_at[name]])
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and [getattr(t, "id", "") for t in node.targets] == ["reason"]:
            yield constant(node.value)
            if isinstance(node.value, ast.IfExp):
                yield from (constant(each) for each in (node.value.body, node.value.orelse))
        elif isinstance(node, ast.Assign) and [getattr(t, "id", "") for t in node.targets] == ["_REASONS"]:
            yield from (constant(each) for each in getattr(node.value, "values", []))
        elif isinstance(node, ast.Tuple) and len(node.elts) == 2:  # (reason, message) of a shortfall
            word = constant(node.elts[0])
            message = constant(node.elts[1])
            yield word if word and CAMEL.fullmatch(word) and not (message and " " not in message) else None


@cache
def reasons() -> frozenset[str]:
    """Every reason that the code can write."""
    found = {ALREADY_EXISTS, *(end.value for end in End), *STOP_PHASE, *(phase for phase, _ in IN_STAGE.values())}
    for path, tree in sources():
        if not path.is_relative_to(NO_REASONS_OF_RUNS):
            found |= {word for word in reasons_in(path, tree) if word}
    return frozenset(found - NEVER_SHOWN)


RUN_REASONS = ("reasons.md", "# Phases and reasons")
WORKSPACE_REASONS = ("workspaces.md", "## Reasons")
EVENTS_ONLY = {"Stopping", "RemoteRunLeft", "OperatorError", "LogsNotKept", "UploadsRemoved", "UploadsLeft"}


def test_every_reason_that_the_code_can_write_is_explained() -> None:
    told = first_cells(*RUN_REASONS) | first_cells(*WORKSPACE_REASONS)
    assert len(reasons()) > 50
    assert reasons() - told - EVENTS_ONLY == set()
    assert all(f"`{reason}`" in text("reasons.md") for reason in EVENTS_ONLY)


@pytest.mark.parametrize(("page", "section"), [RUN_REASONS, WORKSPACE_REASONS])
def test_no_reason_is_explained_that_the_code_never_writes(page: str, section: str) -> None:
    assert first_cells(page, section) - reasons() == set()


def test_what_an_identity_lacks_is_always_named() -> None:
    bare = [
        f"{name_of(path)}:{call.lineno}"
        for path, tree in sources()
        for name, call in calls_of(tree)
        if name == "IdentityError" and "reason" not in {keyword.arg for keyword in call.keywords}
    ]
    assert bare == []


@pytest.mark.parametrize(
    ("section", "types", "true_in"),
    [
        ("## How a run lives", TYPES, TRUE_IN),
        ("## How a deployment lives", serving.BY_PHASE, serving.TRUE_IN),
    ],
)
def test_the_table_of_conditions_is_the_codes(
    section: str, types: tuple[str, ...], true_in: Mapping[str, frozenset[str]]
) -> None:
    table = {row[0]: row[1:] for row in rows("concepts.md", section) if row[0] != "phase"}
    assert table == {phase: ["True" if kind in true else "False" for kind in types] for phase, true in true_in.items()}


def test_every_flag_of_the_operator_is_in_the_table_with_its_variable() -> None:
    table = {flag: row for row in rows("operating.md", "## Flags and environment") for flag in quoted(row[0])}
    command = typer.main.get_command(app).commands["operator"]  # type: ignore[attr-defined]
    options = [option for option in command.params if option.opts != ["--help"]]
    assert set(table) == {name for option in options for name in option.opts}
    for option in options:
        row = table[option.opts[0]]
        assert quoted(row[1]) == [option.envvar], option.opts
        if isinstance(option.default, float):
            assert row[2] == f"{option.default:g}", option.opts


def test_every_metric_is_in_the_table_with_its_labels() -> None:
    table = {row[0].strip("`"): quoted(row[1]) for row in rows("operating.md", "## Metrics")}
    defined = {}
    for name, call in calls_of(ast.parse((SOURCE / "telemetry/metrics.py").read_text())):
        if name in ("Counter", "Gauge", "Histogram"):
            labels = call.args[2].elts if len(call.args) > 2 else []  # type: ignore[attr-defined]
            defined[constant(call.args[0])] = [constant(label) for label in labels]
    table.pop("metric")
    assert table == defined


def keys_of(path: str, *functions: str) -> set[str]:
    """Keys of the dicts that those functions build."""
    found: set[str] = set()
    for function in ast.walk(ast.parse((SOURCE / path).read_text())):
        if not isinstance(function, ast.FunctionDef) or function.name not in functions:
            continue
        for node in ast.walk(function):
            if isinstance(node, ast.Dict):
                found |= {word for key in node.keys if key is not None and (word := constant(key))}
            elif isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Store):
                found |= {word for word in [constant(node.slice)] if word}
    return found


def test_every_field_of_the_audit_records_is_in_the_table() -> None:
    written = (
        keys_of("audit/transport.py", "send", "_facts_of", "_record_request")
        | keys_of("audit/log.py", "write")
        | keys_of("audit/context.py", "audit_context")
        | keys_of("platforms/databricks/client.py", "_facts_now")
        | {"principal", "mode", "service_account", "secret"}  # TokenSource.describe
    )
    assert {"time", "id", "error", "assertion_jti", "remote_id"} <= written
    table = first_cells("operating.md", "## The audit trail")
    assert table == written


def test_every_right_of_the_operator_is_in_the_table() -> None:
    files = sorted((ROOT / "charts/trainyard/files/rbac").glob("*.yaml"))
    granted = {
        resource for file in files for rule in yaml.safe_load(file.read_text()) for resource in rule["resources"]
    }
    assert first_cells("operating.md", "## Rights") == granted


# --- examples


def fenced(page: Path) -> Iterator[tuple[str, str]]:
    """Language and text of each fenced block, and the YAML of here-documents inside."""
    for language, body in re.findall(r"^```(\w+)\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL):
        yield language, body
        for inner in re.findall(r"<<'YAML'\n(.*?)^YAML$", body, re.MULTILINE | re.DOTALL):
            yield "yaml", inner


def examples() -> Iterator[Any]:
    texts = [(name_of(file), file.read_text()) for file in sorted((ROOT / "examples").rglob("*.yaml"))]
    for page in PAGES:
        texts += [(name_of(page), body) for language, body in fenced(page) if language == "yaml"]
    for where, body in texts:
        for obj in yaml.safe_load_all(body):
            if obj.get("apiVersion") == "trainyard.dev/v1alpha1":
                yield pytest.param(obj, id=f"{where}:{obj['metadata']['name']}")


@cache
def schema_of(kind: str) -> Mapping[str, Any]:
    crd = yaml.safe_load((ROOT / "crds" / f"{kind.lower()}s.yaml").read_text())
    schema: Mapping[str, Any] = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    return schema


def unknown(value: Any, schema: Mapping[str, Any], path: str) -> Iterator[str]:
    """Fields that the API server would prune."""
    if isinstance(value, list):
        for item in value:
            yield from unknown(item, schema.get("items", schema), f"{path}[]")
    elif isinstance(value, dict):
        for key, inner in value.items():
            into = schema.get("properties", {}).get(key) or schema.get("additionalProperties")
            if into is None and not schema.get("x-kubernetes-preserve-unknown-fields"):
                yield f"{path}.{key}"
            yield from unknown(inner, into or {"x-kubernetes-preserve-unknown-fields": True}, f"{path}.{key}")


@pytest.mark.parametrize("obj", list(examples()))
def test_an_example_is_what_the_schema_accepts(obj: dict[str, Any]) -> None:
    assert list(unknown(obj["spec"], schema_of(obj["kind"])["properties"]["spec"], "spec")) == []
    SPECS[obj["kind"]].model_validate(obj["spec"])


def test_there_are_examples_of_every_kind() -> None:
    assert {param.values[0]["kind"] for param in examples()} == SPECS.keys()


# --- names


def resolves(path: list[str], schema: Mapping[str, Any]) -> bool:
    if not path:
        return True
    while "items" in schema:
        schema = schema["items"]
    into = schema.get("properties", {}).get(path[0]) or schema.get("additionalProperties")
    return resolves(path[1:], into) if into else bool(schema.get("x-kubernetes-preserve-unknown-fields"))


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_field_that_a_page_names_exists(page: Path) -> None:
    named = set(re.findall(r"`((?:spec|status)\.[A-Za-z.\[\]]+)`", page.read_text()))
    missing = [
        path
        for path in sorted(named)
        if not any(resolves(path.replace("[]", "").split("."), schema_of(kind)) for kind in SPECS)
    ]
    assert missing == []


@pytest.mark.parametrize(
    ("kind", "page"),
    [
        ("MLTrainingRun", "training-runs.md"),
        ("ModelDeployment", "model-deployments.md"),
        ("MLWorkspace", "workspaces.md"),
        ("ClusterMLWorkspace", "workspaces.md"),
    ],
)
def test_every_field_of_a_spec_is_in_its_page(kind: str, page: str) -> None:
    fields = schema_of(kind)["properties"]["spec"]["properties"]
    assert [name for name in fields if not re.search(rf"\b{name}\b", text(page))] == []


@pytest.mark.parametrize("page", WRITTEN, ids=name_of)
def test_every_file_and_test_that_a_page_names_exists(page: Path) -> None:
    body = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    paths = [word for word in re.findall(r"`([\w./-]+)`", body) if re.search(r"/.*(\.py|\.yaml)$|^\w+(/\w+)*/$", word)]
    assert [
        path for path in paths if not any((base / path).exists() for base in (ROOT, SOURCE, SOURCE / "platforms"))
    ] == []
    tests = "".join(file.read_text() for file in (ROOT / "tests").rglob("test_*.py"))
    assert [name for name in re.findall(r"`(test_\w+)`", body) if f"def {name}(" not in tests] == []


# --- links


def anchors(page: Path) -> set[str]:
    """Anchors of a page's headings, as GitHub makes them."""
    body = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ (.+)$", body, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", [page for page in PAGES if page.parent.name != "reference"], ids=name_of)
def test_every_relative_link_leads_somewhere(page: Path) -> None:
    body = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    broken = []
    for link in re.findall(r"\]\(([^)\s]+)\)", body):
        if "://" in link:
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)
    assert broken == []


def test_every_page_can_be_reached_from_the_readme() -> None:
    seen, left = set(), [ROOT / "README.md"]
    while left:
        page = left.pop()
        if page in seen or not page.exists():
            continue
        seen.add(page)
        links = re.findall(r"\]\(([^)\s#]+\.md)", page.read_text())
        left += [(page.parent / link).resolve() for link in links if "://" not in link]
    assert [name_of(page) for page in PAGES if page not in seen] == []

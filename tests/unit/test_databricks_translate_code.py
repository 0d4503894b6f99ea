"""Where code comes from and how it is started: every kind of code with every kind of entrypoint."""

from typing import Any

import pytest

from tests.unit.translations import MLFLOW, NOTEBOOK, only_task, refusal, request
from trainyard.platforms.databricks import names

PACKAGE = {"acme/__init__.py": b"", "acme/train.py": b"", "acme/__main__.py": b"", "main.py": b""}
WHEEL = {"wheel": {"package": "acme-churn[gpu]==1.4.0"}}
WHEEL_FILE = {"wheel": {"path": "/Volumes/main/ml/wheels/acme_churn-1.4.0-py3-none-any.whl"}}
PATH = {"path": "/Workspace/Shared/churn/v1"}
VOLUME = {"path": "data://code/churn/v1"}
ROOTS = {"dataRoots": {"code": {"path": "/Volumes/main/ml/code"}}}


def launched(task: dict[str, Any]) -> list[str]:
    python = task["spark_python_task"]
    assert python["python_file"].endswith("/" + names.LAUNCHER_FILE)
    assert python["python_file"].startswith("/Workspace/Users/app-id/.trainyard/code/")
    found: list[str] = python["parameters"]
    return found


def uploads(*args: Any, **kwargs: Any) -> set[str]:
    return set(request(*args, **kwargs).files)


def test_a_module_is_started_by_the_launcher_that_is_uploaded_with_the_code() -> None:
    asked = request(PACKAGE, entrypoint={"module": "acme.train", "args": ["--x"]})
    folder = f"/Workspace{asked.code_folder}"
    assert launched(asked.body["tasks"][0]) == ["--folder", folder, "--module", "acme.train", "--", "--x"]
    assert asked.files == {**PACKAGE, names.LAUNCHER_FILE: names.LAUNCHER}


def test_a_python_file_needs_no_launcher_where_the_platform_can_do_it() -> None:
    assert uploads(PACKAGE, entrypoint={"pythonFile": "acme/train.py"}) == set(PACKAGE)


def test_code_that_is_on_the_platform_is_not_uploaded() -> None:
    asked = request({}, code=PATH, entrypoint={"pythonFile": "src/train.py", "args": ["1"]})
    assert asked.files == {}
    assert asked.body["tasks"][0]["spark_python_task"] == {
        "python_file": "/Workspace/Shared/churn/v1/src/train.py",
        "parameters": ["1"],
        "source": "WORKSPACE",
    }


def test_code_on_a_volume_is_started_by_the_launcher() -> None:
    task = only_task({}, code=VOLUME, workspace=ROOTS, entrypoint={"pythonFile": "src/train.py", "args": ["1"]})
    folder = "/Volumes/main/ml/code/churn/v1/src"
    assert launched(task) == ["--folder", folder, "--file", f"{folder}/train.py", "--", "1"]
    module = only_task({}, code=VOLUME, workspace=ROOTS, entrypoint={"module": "acme"})
    assert launched(module) == ["--folder", "/Volumes/main/ml/code/churn/v1", "--module", "acme", "--"]
    assert uploads({}, code=VOLUME, workspace=ROOTS) == {names.LAUNCHER_FILE}


@pytest.mark.parametrize(
    ("code", "name", "library"),
    [
        (WHEEL, "acme-churn", {"pypi": {"package": "acme-churn[gpu]==1.4.0"}}),
        (WHEEL_FILE, "acme_churn", {"whl": WHEEL_FILE["wheel"]["path"]}),
        ({"wheel": {**WHEEL_FILE["wheel"], "name": "churn"}}, "churn", {"whl": WHEEL_FILE["wheel"]["path"]}),
    ],
)
def test_a_console_script_runs_from_its_wheel(code: Any, name: str, library: Any) -> None:
    entrypoint = {"consoleScript": "train", "args": ["--x"]}
    environment = {"pip": ["pandas"]}
    asked = request({}, code=code, entrypoint=entrypoint, environment=environment, compute={"class": "cluster"})
    [task] = asked.body["tasks"]
    assert task["python_wheel_task"] == {"package_name": name, "entry_point": "train", "parameters": ["--x"]}
    assert task["libraries"] == [{"pypi": {"package": "pandas"}}, library]
    assert asked.files == {}
    serverless = request({}, code=code, entrypoint=entrypoint, environment=environment).body
    [dependency] = library.values()
    wanted = dependency["package"] if isinstance(dependency, dict) else dependency
    assert serverless["environments"][0]["spec"]["dependencies"] == ["pandas", wanted]


def test_a_module_of_a_wheel_is_started_by_the_launcher_without_a_folder() -> None:
    task = only_task({}, code=WHEEL, entrypoint={"module": "acme.train"}, compute={"class": "cluster"})
    assert launched(task) == ["--module", "acme.train", "--"]
    assert task["libraries"] == [{"pypi": {"package": "acme-churn[gpu]==1.4.0"}}]


def test_a_notebook_gets_the_parameters_as_widgets_and_loses_its_suffix() -> None:
    files = {"nb/train.py": NOTEBOOK, "nb/look.ipynb": b"{}", "nb/helpers.py": b"x = 1"}
    asked = request(files, entrypoint={"notebook": "nb/train.py"}, params={"depth": "4"})
    assert asked.body["tasks"][0]["notebook_task"] == {
        "notebook_path": f"/Workspace{asked.code_folder}/nb/train",
        "base_parameters": {"depth": "4"},
        "source": "WORKSPACE",
    }
    assert asked.notebooks == {"nb/train.py", "nb/look.ipynb"}
    assert asked.body["tasks"][0]["environment_variables_key"] == "trainyard"
    assert request(files, entrypoint={"pythonFile": "nb/train.py"}).notebooks == frozenset()


def test_a_notebook_of_the_workspace_is_named_without_its_suffix() -> None:
    task = only_task({}, code=PATH, entrypoint={"notebook": "nb/train.ipynb"})
    assert task["notebook_task"]["notebook_path"] == "/Workspace/Shared/churn/v1/nb/train"
    bare = only_task({}, code=PATH, entrypoint={"notebook": "nb/train.v2"})
    assert bare["notebook_task"]["notebook_path"] == "/Workspace/Shared/churn/v1/nb/train.v2"


def test_two_files_never_get_one_path() -> None:
    files = {"a.py": NOTEBOOK, "a.ipynb": b"{}", "b.py": NOTEBOOK, "b/x.py": b""}
    assert request(files, entrypoint={"notebook": "a.ipynb"}).notebooks == {"a.ipynb"}
    error = refusal(files, entrypoint={"notebook": "b.py"})
    assert "'b'" in error.message


ON_A_RUNNING_CLUSTER = [
    ({"files": PACKAGE, "entrypoint": {"pythonFile": "acme/train.py"}}, "--file"),
    ({"files": PACKAGE, "entrypoint": {"module": "acme.train"}}, "--module"),
    ({"files": {}, "code": WHEEL, "entrypoint": {"consoleScript": "train"}}, "--script"),
]


@pytest.mark.parametrize(("fields", "how"), ON_A_RUNNING_CLUSTER)
def test_on_a_running_cluster_the_launcher_sets_the_variables(fields: dict[str, Any], how: str) -> None:
    task = only_task(compute={"class": "shared"}, **fields)
    parameters = launched(task)
    assert task["existing_cluster_id"] == "0123-456789-abc"
    settings = dict(parameters[index + 1].split("=", 1) for index, part in enumerate(parameters) if part == "--set")
    assert settings == {
        "TRAINYARD_NAMESPACE": "team-a",
        "TRAINYARD_NAME": "iris",
        "TRAINYARD_ATTEMPT": "1",
        **MLFLOW,
    }
    assert how in parameters
    assert parameters.index("--") > parameters.index(how)


def test_on_a_running_cluster_a_notebook_finds_the_variables_among_its_parameters() -> None:
    task = only_task(
        {"a.py": NOTEBOOK}, compute={"class": "shared"}, entrypoint={"notebook": "a.py"}, params={"x": "1"}
    )
    assert task["notebook_task"]["base_parameters"] == {
        "x": "1",
        "TRAINYARD_NAMESPACE": "team-a",
        "TRAINYARD_NAME": "iris",
        "TRAINYARD_ATTEMPT": "1",
        **MLFLOW,
    }


REFUSED: list[tuple[dict[str, Any], str, str, str]] = [
    ({"entrypoint": {"notebook": "a.py"}}, "spec.entrypoint.notebook", "EntrypointMissing", "main.py"),
    (
        {"files": {"a.py": b"x"}, "entrypoint": {"notebook": "a.py"}},
        "spec.entrypoint.notebook",
        "InvalidSpec",
        "first line",
    ),
    (
        {"files": PACKAGE, "entrypoint": {"module": "acme.fit"}},
        "spec.entrypoint.module",
        "EntrypointMissing",
        "acme/train.py",
    ),
    (
        {"files": {"py/src/acme/train.py": b""}, "entrypoint": {"module": "acme.train"}},
        "spec.entrypoint.module",
        "EntrypointMissing",
        "'py/src'",
    ),
    ({"entrypoint": {"consoleScript": "x"}}, "spec.entrypoint.consoleScript", "EntrypointMissing", "code.wheel"),
    ({"code": WHEEL}, "spec.entrypoint.pythonFile", "EntrypointMissing", "consoleScript"),
    ({"code": WHEEL, "entrypoint": {"notebook": "a"}}, "spec.entrypoint.notebook", "EntrypointMissing", "module"),
    ({"code": {"path": "data://code/x"}}, "spec.code.path", "DataRootUnknown", "none"),
    (
        {"code": {"path": "data://s3/x"}, "workspace": {"dataRoots": {"s3": {"path": "s3://bucket"}}}},
        "spec.code.path",
        "InvalidSpec",
        "s3://bucket/x",
    ),
    ({"code": {"path": "/Workspace/Users/me/../you"}}, "spec.code.path", "InvalidSpec", ".."),
    (
        {"code": VOLUME, "workspace": ROOTS, "entrypoint": {"notebook": "a.py"}},
        "spec.entrypoint.notebook",
        "InvalidSpec",
        "/Workspace",
    ),
    ({"code": {"wheel": {"path": "/Volumes/a/b/c/d.zip"}}}, "spec.code.wheel.path", "InvalidSpec", ".whl"),
]


@pytest.mark.parametrize(("fields", "field", "reason", "words"), REFUSED)
def test_what_can_not_be_started_is_refused_before_anything_is_sent(
    fields: dict[str, Any], field: str, reason: str, words: str
) -> None:
    error = refusal(**fields)
    assert (error.field, error.reason) == (field, reason)
    assert words in error.message


def test_a_module_of_an_installed_package_may_be_run_beside_the_code() -> None:
    task = only_task(PACKAGE, entrypoint={"module": "torch.distributed.run", "args": ["main.py"]})
    assert launched(task)[-2:] == ["--", "main.py"]


def test_a_message_does_not_list_hundreds_of_files() -> None:
    error = refusal({f"f{index:03}.py": b"" for index in range(500)}, entrypoint={})
    assert "and 488 more" in error.message
    assert len(error.message) < 400

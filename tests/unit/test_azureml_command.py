"""The command of an Azure ML job: what the code gets after Azure ML and a shell have read it.

The commands are really run by /bin/sh, after replacing what Azure ML replaces (its documentation, "CLI (v2) command job
YAML schema": expressions), with a program in place of Python that shows what it was started with.
"""

import re
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.azureml_jobs import properties, refusal
from trainyard.platforms.azureml.command import Text, word

SHOW = (
    '#!/bin/sh\nprintf "%s\\n" "${0##*/}|$PWD|$TRAINYARD_INPUT_RAW|$TRAINYARD_OUTPUT_MADE"\n'
    'for arg; do printf "%s\\0" "$arg"; done\n'
)
EXPRESSION = re.compile(r"\$\{\{\s*(?:inputs|outputs|search_space)\.([\w-]+)\s*\}\}")
OPTIONAL = re.compile(r"\$\[\[(.*?)\]\]", re.DOTALL)
NASTY = [
    "",
    "plain",
    "two words",
    "it's",
    '"quoted"',
    "$HOME",
    "`id`",
    "$(id)",
    "a\nb",
    "back\\slash",
    "; rm -rf /",
    "${{inputs.raw}}",
    "${{ outputs.made }}",
    "$${{{inputs.raw}}}",
    "'${{inputs.raw}}'",
    "$[[--x ${{inputs.none}}]]",
    "~ * ? [a] {b,c} !",
    "-- -c",
    "ünïcode ✓",
]


def replaced(command: str, values: Mapping[str, str]) -> str:
    """The command as Azure ML hands it to the shell."""

    def optional(match: re.Match[str]) -> str:
        return "" if any(name not in values for name in EXPRESSION.findall(match[1])) else match[1]

    return EXPRESSION.sub(lambda match: values[match[1]], OPTIONAL.sub(optional, command))


@pytest.fixture(scope="session")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bin")
    for name in ("python", "train-iris", "exit"):
        (folder / name).write_text(SHOW)
        (folder / name).chmod(0o755)
    return folder


def run(sent: Mapping[str, Any], programs: Path, **values: str) -> list[tuple[str, list[str]]]:
    """Each program that the command started: its first line, and its arguments."""
    command = replaced(sent["command"], values)
    done = subprocess.run(
        ["/bin/sh", "-c", command],
        env={"PATH": f"{programs}:/usr/bin:/bin"},
        cwd="/",
        capture_output=True,
        check=True,
        timeout=10,
    )
    started = []
    for part in re.split(rb"(?=(?:python|train-iris|exit)\|/)", done.stdout):
        if part:
            line, _, rest = part.partition(b"\n")
            started.append((line.decode(), [each.decode() for each in rest.split(b"\0")[:-1]]))
    return started


@pytest.mark.parametrize("arg", NASTY)
def test_an_argument_reaches_the_code_as_it_was_written(arg: str, programs: Path) -> None:
    sent = properties(entrypoint={"args": ["--", arg.replace("$(", "$$("), "$(params.p)"]}, params={"p": arg})
    assert run(sent, programs, raw="/mnt/RAW", made="/mnt/MADE") == [("python|/||", ["main.py", "--", arg, arg])]


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.sampled_from(["$", "{{", "}}", "[[", "]]", "'", '"', "inputs.raw", "`", "\\", "\n", " "]), max_size=8)
)
def test_no_text_of_the_users_is_an_expression_of_azure_mls(parts: list[str]) -> None:
    written = word([Text("".join(parts))], "spec.entrypoint.args[0]")
    assert "${{" not in written
    assert "$[[" not in written


def test_text_and_a_parameter_make_no_expression_together(programs: Path) -> None:
    sent = properties(
        entrypoint={"args": ["$(params.open)inputs.raw}}", "$[$(params.rest)"]}, params={"open": "${{", "rest": "[x]]"}
    )
    assert run(sent, programs, raw="/mnt/RAW") == [("python|/||", ["main.py", "${{inputs.raw}}", "$[[x]]"])]


def test_inputs_and_outputs_are_told_as_arguments_and_variables(programs: Path) -> None:
    sent = properties(
        entrypoint={"args": ["--data=$(inputs.raw)/$(params.p)", "$(outputs.made)"]},
        params={"p": "it's $1"},
        inputs={"raw": {"uri": "data://raw"}},
        outputs={"made": {"uri": "data://raw/made"}},
    )
    assert run(sent, programs, raw="/mnt/a b", made="/mnt/m") == [
        ("python|/|/mnt/a b|/mnt/m", ["main.py", "--data=/mnt/a b/it's $1", "/mnt/m"])
    ]


def test_a_module_is_run_as_python_would(programs: Path) -> None:
    sent = properties({"acme/train.py": b""}, entrypoint={"module": "acme.train"})
    assert run(sent, programs) == [("python|/||", ["-m", "acme.train"])]


def test_a_wheel_of_an_index_is_part_of_the_environment(programs: Path) -> None:
    sent = properties(
        {}, code={"wheel": {"package": "iris==1.4"}}, entrypoint={"consoleScript": "train-iris", "args": ["a b"]}
    )
    assert run(sent, programs) == [("train-iris|/||", ["a b"])]
    assert "codeId" not in sent


def test_a_console_script_is_never_a_word_of_the_shells(programs: Path) -> None:
    sent = properties({}, code={"wheel": {"package": "iris"}}, entrypoint={"consoleScript": "exit"})
    assert run(sent, programs) == [("exit|/||", [])]


def test_a_wheel_in_storage_is_mounted_and_installed_before_it_starts(programs: Path) -> None:
    sent = properties(
        {},
        code={"wheel": {"path": "data://wheels/iris-1.4-py3-none-any.whl"}},
        entrypoint={"module": "iris.train"},
    )
    assert sent["inputs"]["trainyard_wheel"] == {
        "jobInputType": "uri_folder",
        "uri": "abfss://wheels@acme.dfs.core.windows.net/py",
        "mode": "ReadOnlyMount",
    }
    assert run(sent, programs, trainyard_wheel="/mnt/w") == [
        ("python|/||", ["-m", "pip", "install", "/mnt/w/iris-1.4-py3-none-any.whl"]),
        ("python|/||", ["-m", "iris.train"]),
    ]


def test_processes_of_one_machine_install_a_wheel_one_after_the_other(programs: Path) -> None:
    sent = properties(
        {},
        code={"wheel": {"path": "data://wheels/iris-1.4-py3-none-any.whl"}},
        entrypoint={"module": "iris.train"},
        compute={"class": "big"},
    )
    assert sent["command"].startswith("flock ")
    assert len(run(sent, programs, trainyard_wheel="/mnt/w")) == 2


def test_a_wheel_goes_onto_an_environment_that_is_used_as_it_is_when_it_starts(programs: Path) -> None:
    sent = properties(
        {},
        workspace={"runtimes": {"team": {"azureML": {"environment": "team-env:7"}}}},
        environment={"runtime": "team"},
        code={"wheel": {"package": "iris>=1.4; python_version > '3'"}},
        entrypoint={"consoleScript": "train-iris"},
    )
    assert run(sent, programs) == [
        ("python|/||", ["-m", "pip", "install", "iris>=1.4; python_version > '3'"]),
        ("train-iris|/||", []),
    ]


def test_code_in_storage_is_mounted_and_started_in_its_folder(programs: Path, tmp_path: Path) -> None:
    sent = properties({}, code={"path": "data://raw/code-1.4"}, entrypoint={"pythonFile": "jobs/train.py"})
    assert sent["inputs"]["trainyard_code"]["uri"] == "azureml://datastores/lake/paths/raw/code-1.4"
    assert run(sent, programs, trainyard_code=str(tmp_path)) == [(f"python|{tmp_path}||", ["jobs/train.py"])]


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        ({"entrypoint": {"pythonFile": "train.py"}}, "spec.entrypoint.pythonFile"),
        ({"entrypoint": {"module": "main.train"}}, "spec.entrypoint.module"),
        ({"entrypoint": {"consoleScript": "train"}}, "spec.entrypoint.consoleScript"),
        ({"code": {"wheel": {"package": "iris"}}}, "spec.entrypoint.pythonFile"),
    ],
)
def test_what_is_not_in_the_code_is_refused_before_it_costs_anything(spec: dict[str, Any], field: str) -> None:
    refused = refusal(**spec)
    assert (refused.field, refused.reason) == (field, "EntrypointMissing")


def test_what_no_command_line_can_hold_is_refused() -> None:
    refused = refusal(entrypoint={"args": ["a\0b"]})
    assert (refused.field, refused.reason) == ("spec.entrypoint.args[0]", "InvalidSpec")


def test_a_reference_to_nothing_is_refused() -> None:
    assert refusal(entrypoint={"args": ["$(params.x)"]}).reason == "ParameterUnknown"
    assert refusal(entrypoint={"args": ["$(inputs.x)"]}).reason == "ReferenceUnknown"
    assert refusal(entrypoint={"args": ["$(mlflow.runId)"]}).reason == "ReferenceUnknown"

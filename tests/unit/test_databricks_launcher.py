"""The launcher, run as the platform runs it: in a Python of its own, from a folder that is not the code's."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from trainyard.platforms.databricks import names

TELL = """
import json, os, sys
print(json.dumps({"argv": sys.argv, "path": sys.path[0], "cwd": os.getcwd(), "name": __name__,
                  "file": __file__, "set": os.environ.get("TOLD")}))
"""


@pytest.fixture
def launcher(tmp_path: Path) -> Path:
    path = tmp_path / "uploads" / names.LAUNCHER_FILE
    path.parent.mkdir()
    path.write_bytes(names.LAUNCHER)
    return path


@pytest.fixture
def code(tmp_path: Path) -> Path:
    folder = tmp_path / "code"
    (folder / "acme").mkdir(parents=True)
    (folder / "acme" / "__init__.py").write_text("")
    (folder / "acme" / "train.py").write_text(TELL)
    (folder / "acme" / "__main__.py").write_text(TELL)
    (folder / "main.py").write_text("import helper\n" + TELL)
    (folder / "helper.py").write_text("")
    return folder


def launch(launcher: Path, *args: str, wheels: Path | None = None) -> "subprocess.CompletedProcess[str]":
    env = {"PATH": "/usr/bin:/bin", **({"PYTHONPATH": str(wheels)} if wheels else {})}
    return subprocess.run(
        [sys.executable, str(launcher), *args], capture_output=True, text=True, env=env, cwd="/", check=False
    )


def told(ran: "subprocess.CompletedProcess[str]") -> dict[str, Any]:
    assert (ran.returncode, ran.stderr) == (0, "")
    found: dict[str, Any] = json.loads(ran.stdout)
    return found


def test_a_file_runs_as_python_would_run_it(launcher: Path, code: Path) -> None:
    file = str(code / "main.py")
    found = told(launch(launcher, "--folder", str(code), "--file", file, "--", "--depth", "4", "--", "-x"))
    assert found["argv"] == [file, "--depth", "4", "--", "-x"]
    assert (found["path"], found["cwd"], found["name"], found["file"]) == (str(code), str(code), "__main__", file)


@pytest.mark.parametrize(("module", "file"), [("acme.train", "train.py"), ("acme", "__main__.py")])
def test_a_module_runs_as_with_python_m(launcher: Path, code: Path, module: str, file: str) -> None:
    found = told(launch(launcher, "--folder", str(code), "--module", module, "--", "a b"))
    assert found["argv"] == [str(code / "acme" / file), "a b"]
    assert (found["path"], found["name"]) == (str(code), "__main__")


def test_variables_are_there_before_the_code_is(launcher: Path, code: Path) -> None:
    assert told(launch(launcher, "--set", "TOLD=a=b c", "--folder", str(code), "--module", "acme"))["set"] == "a=b c"
    assert told(launch(launcher, "--set", "TOLD=", "--folder", str(code), "--module", "acme"))["set"] == ""


@pytest.fixture
def wheels(tmp_path: Path) -> Path:
    site = tmp_path / "site"
    info = site / "acme_churn-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme-churn\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[console_scripts]\nchurn = churn:main\nbad = churn:bad\n")
    (site / "churn.py").write_text("import sys\ndef main():\n    print(sys.argv)\ndef bad():\n    return 3\n")
    return site


def test_a_console_script_runs_with_its_arguments_and_its_result_is_the_exit_code(launcher: Path, wheels: Path) -> None:
    ran = launch(launcher, "--script", "churn", "--", "--fast", wheels=wheels)
    assert (ran.returncode, ran.stdout) == (0, "['churn', '--fast']\n")
    assert launch(launcher, "--script", "bad", wheels=wheels).returncode == 3
    unknown = launch(launcher, "--script", "nosuch", wheels=wheels)
    assert (unknown.returncode, unknown.stderr) == (1, "no installed package has the console script 'nosuch'\n")


ENDS = [
    ("import sys; sys.exit()", 0),
    ("import sys; sys.exit(0)", 0),
    ("import sys; sys.exit(7)", 7),
    ("import sys; sys.exit('no data')", 1),
    ("raise ValueError('no data')", 1),
]


@pytest.mark.parametrize(("source", "code"), ENDS)
def test_it_ends_as_the_code_ends(launcher: Path, tmp_path: Path, source: str, code: int) -> None:
    file = tmp_path / "main.py"
    file.write_text(source)
    ran = launch(launcher, "--folder", str(tmp_path), "--file", str(file))
    assert ran.returncode == code
    assert ("no data" in ran.stderr) == ("no data" in source)


def test_code_that_ends_well_with_sys_exit_raises_nothing_that_a_notebook_kernel_would_show(tmp_path: Path) -> None:
    """Databricks executes the file in a running interpreter, where any SystemExit is a failure."""
    (tmp_path / "main.py").write_text("import sys; sys.exit(0)")
    arguments = ["launcher.py", "--folder", str(tmp_path), "--file", str(tmp_path / "main.py")]
    source = f"""
import sys
sys.argv = {arguments!r}
exec(compile({names.LAUNCHER.decode()!r}, "launcher", "exec"), {{"__name__": "__main__"}})
print("still here")
"""
    ran = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "still here\n", "")


def test_its_name_changes_with_its_content() -> None:
    assert names.LAUNCHER_FILE.startswith("_trainyard_launcher_")
    assert b"__file__" not in names.LAUNCHER.split(b'"""', 2)[2]

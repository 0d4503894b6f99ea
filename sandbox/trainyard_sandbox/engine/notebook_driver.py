"""Runs a notebook's cells with a small `dbutils` in scope. A script run in the task's process, never imported.

Usage: notebook_driver.py PLAN RESULT. PLAN is JSON: `cells` (kind, text, and for pip the command), `widgets`, `path`,
`code` (the folder that comes first in sys.path). RESULT is where JSON is written in the end: `exit`, or `error` and
`trace`. Standard library only: the notebook's code shares this process.

What `dbutils` does is read in Databricks documentation, "Databricks Utilities (dbutils) reference" (widgets,
notebook.exit, secrets, library.restartPython); databricks-sdk `service/workspace.py` get_secret (the call behind
dbutils.secrets). The words of InputWidgetNotDefined are (recalled).
"""

import base64
import json
import linecache
import os
import pathlib
import ssl
import subprocess
import sys
import traceback
import types
import urllib.error
import urllib.parse
import urllib.request
from typing import Any


class NotebookExit(BaseException):
    """Ends the notebook well. Not an Exception, so that a notebook's own `except Exception` lets it pass."""


class InputWidgetNotDefined(Exception):
    """No widget of that name."""


class ExecutionError(Exception):
    """A call of dbutils failed."""


class Widgets:
    """dbutils.widgets."""

    def __init__(self, given: dict[str, str]) -> None:
        self._given, self._defined = given, dict(given)

    def get(self, name: str) -> str:
        """The widget's value."""
        if name not in self._defined:
            raise InputWidgetNotDefined(
                f"com.databricks.dbutils_v1.InputWidgetNotDefined: No input widget named {name} is defined"
            )
        return self._defined[name]

    def getAll(self) -> dict[str, str]:  # noqa: N802 - the platform's name
        """Every widget's value."""
        return dict(self._defined)

    def text(self, name: str, defaultValue: str = "", label: str = "") -> None:  # noqa: N803
        """Define a widget; the job's value wins over the default."""
        del label
        self._defined.setdefault(name, self._given.get(name, defaultValue))

    def dropdown(self, name: str, defaultValue: str, choices: list[str], label: str = "") -> None:  # noqa: N803
        """Define a widget with choices."""
        del choices
        self.text(name, defaultValue, label)

    combobox = multiselect = dropdown

    def remove(self, name: str) -> None:
        """Remove a widget."""
        self._defined.pop(name, None)

    def removeAll(self) -> None:  # noqa: N802
        """Remove all widgets."""
        self._defined.clear()


class Notebook:
    """dbutils.notebook."""

    def exit(self, value: object = "") -> None:
        """End the notebook well with this value."""
        raise NotebookExit(str(value))

    def run(self, path: str, *_: object, **__: object) -> None:
        """Not offered."""
        raise ExecutionError(f"dbutils.notebook.run({path!r}) is not offered by this sandbox")


class Secrets:
    """dbutils.secrets."""

    def get(self, scope: str, key: str) -> str:
        """The secret's value, as the identity that the notebook runs as may read it."""
        return self.getBytes(scope, key).decode()

    def getBytes(self, scope: str, key: str) -> bytes:  # noqa: N802
        """The secret's bytes."""
        return base64.b64decode(self._call("get", {"scope": scope, "key": key})["value"])

    def list(self, scope: str) -> list[types.SimpleNamespace]:
        """The keys of a scope."""
        found = self._call("list", {"scope": scope}).get("secrets", [])
        return [types.SimpleNamespace(key=entry["key"]) for entry in found]

    def _call(self, verb: str, query: dict[str, str]) -> dict[str, Any]:
        url = f"{os.environ['DATABRICKS_HOST']}/api/2.0/secrets/{verb}?{urllib.parse.urlencode(query)}"
        bearer = {"Authorization": f"Bearer {os.environ['DATABRICKS_TOKEN']}"}
        request = urllib.request.Request(url, headers=bearer)  # noqa: S310 - the sandbox's own https
        context = ssl.create_default_context(cafile=os.environ["REQUESTS_CA_BUNDLE"])
        try:
            with urllib.request.urlopen(request, context=context, timeout=60) as answer:  # noqa: S310
                found: dict[str, Any] = json.loads(answer.read())
                return found
        except urllib.error.HTTPError as error:
            raise ExecutionError(json.loads(error.read()).get("message", str(error))) from None


class Library:
    """dbutils.library."""

    def __init__(self, restart: object) -> None:
        self.restartPython = restart


def main() -> int:
    """See the module's docstring."""
    plan = json.loads(pathlib.Path(sys.argv[1]).read_text())
    result = pathlib.Path(sys.argv[2])
    sys.argv = [plan["path"]]
    sys.path[0] = plan["code"]
    scope: dict[str, object] = {}

    def begin() -> None:
        scope.clear()
        scope.update(__name__="__main__", __builtins__=__builtins__, dbutils=dbutils, display=print)

    dbutils = types.SimpleNamespace(
        widgets=Widgets(plan["widgets"]), notebook=Notebook(), secrets=Secrets(), library=Library(begin)
    )
    begin()
    try:
        for number, cell in enumerate(plan["cells"], 1):
            run_cell(cell, number, scope)
    except NotebookExit as exit_:
        result.write_text(json.dumps({"exit": exit_.args[0]}))
    except BaseException as error:  # noqa: BLE001 - SystemExit, too, is the notebook's failure
        trace = "".join(traceback.format_exception(type(error), error, own_part(error)))
        print(trace, file=sys.stderr)
        spoken = traceback.format_exception_only(type(error), error)[-1].strip()
        result.write_text(json.dumps({"error": spoken, "trace": trace}))
        return 1
    return 0


def run_cell(cell: dict[str, Any], number: int, scope: dict[str, object]) -> None:
    """Run one cell."""
    if cell["kind"] == "unsupported":
        raise ExecutionError(f"the magic command {cell['text']!r} is not offered by this sandbox")
    if cell["kind"] == "pip":
        if cell["command"]:
            ended = subprocess.run(cell["command"], check=False)  # noqa: S603
            if ended.returncode:
                raise ExecutionError(f"%pip install {cell['text']} failed")
        print("Note: you may need to restart the kernel using dbutils.library.restartPython() to use updated packages.")
        return
    name = f"<cell {number}>"
    linecache.cache[name] = (len(cell["text"]), None, cell["text"].splitlines(keepends=True), name)
    exec(compile(cell["text"], name, "exec"), scope)  # noqa: S102


def own_part(error: BaseException) -> types.TracebackType | None:
    """The traceback from the notebook's cell on, without this driver's frames."""
    found = error.__traceback__
    while found is not None and found.tb_frame.f_code.co_filename == __file__:
        found = found.tb_next
    return found


if __name__ == "__main__":
    sys.exit(main())

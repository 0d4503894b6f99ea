"""A job's code, inputs and outputs: laid out as files before it starts, uploaded after it has ended.

command.py makes one `JobData` for each attempt. Everything goes through stores.py, which knows where the workspace
keeps what.

Azure Machine Learning documentation, "Data in jobs" and "CLI (v2) command job YAML schema": an input of mode `Direct`
is its URI, every other one a path; an output without a URI goes to `azureml/{job}/{output}/` of the default datastore;
`${{name}}` in an output's URI is the job's name; what a job writes into the folders `outputs` and `logs` of its working
directory is uploaded to its artifacts. That data which is not there fails the job, not the submission, is what public
issue threads show (StreamAccess NotFound); the sentence is ours.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from trainyard_sandbox.azure.engine import stores
from trainyard_sandbox.azure.engine.logs import LOG_CONTAINER, JobLogs
from trainyard_sandbox.azure.engine.stores import DataNotThere
from trainyard_sandbox.azure.job_store import AzureJob
from trainyard_sandbox.azure.state import AzureState

__all__ = ["DataNotThere", "JobData"]

ARTIFACT_FOLDERS = ("outputs", "logs")


class JobData:
    """The files of one attempt below one directory.

    Args:
        directory: an empty one.

    Attributes:
        inputs: what each input is in a command: a value, a path, or a URI; by name.
        outputs: where the code writes each output, by name.
    """

    def __init__(self, azure: AzureState, job: AzureJob, directory: Path) -> None:
        self._azure = azure
        self._job = job
        self._directory = directory
        self.inputs: dict[str, str] = {}
        self.outputs: dict[str, str] = {}

    def work_dir(self, node: int) -> Path:
        """The working directory of the processes on one node: the code."""
        return self._directory / f"node-{node}"

    def lay_out(self) -> None:
        """Copy code and inputs from the stores.

        Raises:
            DataNotThere: an input, or the code, cannot be read.
        """
        definition = self._job.definition
        nodes = int((definition.get("resources") or {}).get("instanceCount", 1))
        code = stores.code_files(self._azure, definition["codeId"]) if "codeId" in definition else {}
        for node in range(nodes):
            self.work_dir(node).mkdir(parents=True)
            _write_all(self.work_dir(node), code)
        for name, given in definition.get("inputs", {}).items():
            self.inputs[name] = self._input(name, given)
        for name, given in definition.get("outputs", {}).items():
            self.outputs[name] = self._output(name, given)

    def upload(self) -> None:
        """Upload the outputs, and what lies in `outputs` and `logs` of the first node's working directory."""
        for name, path in self.outputs.items():
            uri = self._job.output_uris[name]
            if not uri.startswith("azureml:") or path == uri:
                continue
            if Path(path).is_file():
                stores.write_uri(self._azure, uri, Path(path).read_bytes())
            for relative, content in _read_all(Path(path)).items():
                stores.write_uri(self._azure, f"{uri.rstrip('/')}/{relative}", content)
        for folder in ARTIFACT_FOLDERS:
            for relative, content in _read_all(self.work_dir(0) / folder).items():
                blob = JobLogs.blob_path(self._job, f"{folder}/{relative}")
                self._azure.blobs.write(LOG_CONTAINER, blob, content)

    def register(self) -> None:
        """Make versions of the outputs that have an asset name; the job has ended well."""
        for name, given in self._job.definition.get("outputs", {}).items():
            if given.get("assetName"):
                stores.register(self._azure, self._job, given, self._job.output_uris[name])

    def _input(self, name: str, given: dict[str, Any]) -> str:
        if given["jobInputType"] == "literal":
            value: str = given["value"]
            return value
        uri = stores.resolved(self._azure, given["uri"], given["jobInputType"])
        if given.get("mode") == "Direct":
            return uri
        place = self._directory / "inputs" / name
        files = stores.read_uri(self._azure, uri)
        if given["jobInputType"] == "uri_file":
            if "" not in files:
                raise DataNotThere(f"The input '{name}' is a uri_file, but {uri} is no file.")
            file = place / (uri.rstrip("/").rpartition("/")[2] or name)
            _write_all(place, {file.name: files[""]})
            return str(file)
        place.mkdir(parents=True)
        _write_all(place, {relative or uri.rpartition("/")[2]: content for relative, content in files.items()})
        return str(place)

    def _output(self, name: str, given: dict[str, Any]) -> str:
        default = f"azureml://datastores/workspaceblobstore/paths/azureml/{self._job.name}/{name}/"
        uri = (given.get("uri") or default).replace("${{name}}", self._job.name).replace("${{output_name}}", name)
        self._job.output_uris[name] = uri
        if given.get("mode") == "Direct":
            return uri
        place = self._directory / "outputs" / name
        if given["jobOutputType"] == "uri_file":
            place.parent.mkdir(parents=True, exist_ok=True)
        else:
            place.mkdir(parents=True)
        return str(place)


def _write_all(folder: Path, files: dict[str, bytes]) -> None:
    root = folder.resolve()
    for relative, content in files.items():
        target = (root / relative).resolve()
        if not target.is_relative_to(root):
            raise DataNotThere(f"The path {relative!r} leads out of its folder.")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)


def _read_all(folder: Path) -> dict[str, bytes]:
    """Files below a folder by relative path; nothing when there is none. Links are not followed."""
    if not folder.is_dir():
        return {}
    found = (path for path in sorted(folder.rglob("*")) if path.is_file() and not path.is_symlink())
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}

"""The log files of jobs: blobs in the workspace's default container, as run history links them.

command.py and pretend.py write them, history.py gives each a signed URL.

Where they lie: SDK and issue threads show `azureml/ExperimentRun/dcid.<run id>/<name>` in the workspace's storage
account (Microsoft's DP100 issue 37 quotes such URLs; the first part is the container).
"""

from __future__ import annotations

from pathlib import Path

from trainyard_sandbox.azure.job_store import AzureJob
from trainyard_sandbox.azure.state import AzureState

STD_LOG = "user_logs/std_log.txt"
BUILD_LOG = "azureml-logs/20_image_build_log.txt"


class JobLogs:
    """Writes log files."""

    def __init__(self, azure: AzureState) -> None:
        self._azure = azure

    @staticmethod
    def blob_path(job: AzureJob, name: str) -> str:
        """Path of the blob of a log file."""
        return f"ExperimentRun/dcid.{job.name}/{name}"

    def file(self, job: AzureJob, name: str) -> Path:
        """The local file that a log file's blob is kept in, made when there is none; a process may write to it."""
        path = self.blob_path(job, name)
        if name not in job.log_files:
            self.write(job, name, b"")
        local: Path = self._azure.blobs.path(LOG_CONTAINER, path)
        return local

    def write(self, job: AzureJob, name: str, content: str | bytes) -> None:
        """Write a whole log file."""
        data = content.encode() if isinstance(content, str) else content
        path = self.blob_path(job, name)
        self._azure.blobs.create_container(LOG_CONTAINER)
        self._azure.blobs.write(LOG_CONTAINER, path, data)
        job.log_files[name] = path


LOG_CONTAINER = "azureml"
"""The container of the workspace's artifacts."""

"""The URLs by which a job's logs may be read without a token.

history.py gives them out. Lifetime: public run details show signatures (`st`, `se`) that end 8 hours and 10 minutes
after they were made (Azure/azureml-examples#1123).
"""

from __future__ import annotations

from trainyard_sandbox.azure.blob_sas import Signatures
from trainyard_sandbox.azure.engine.logs import LOG_CONTAINER
from trainyard_sandbox.azure.job_store import AzureJob
from trainyard_sandbox.azure.state import AzureState

LIFETIME_SECONDS = 8 * 3600.0


def log_urls(azure: AzureState, job: AzureJob) -> dict[str, str]:
    """A readable URL by name of each log file that the job has so far, such as `user_logs/std_log.txt`."""
    signatures = Signatures(azure.blobs, f"{azure.url}/blob/{azure.blobs.account}", azure.now())
    return {
        name: signatures.signed_url(LOG_CONTAINER, path, "r", LIFETIME_SECONDS)
        for name, path in sorted(job.log_files.items())
    }

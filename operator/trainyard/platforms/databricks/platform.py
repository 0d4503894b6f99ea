"""Databricks as a `platforms.base.Platform`. Made by `platforms.registry`."""

from trainyard.audit.log import AuditLog
from trainyard.core.snapshot import Target
from trainyard.identity.base import TokenSource
from trainyard.platforms.base import Connection, Job, ModelWanted, Request
from trainyard.platforms.databricks import names, overrides, translate
from trainyard.platforms.databricks.connection import DatabricksConnection


class Databricks:
    """The Databricks platform. Keeps the contract of `platforms.base.Platform`."""

    name = "databricks"

    def label(self, namespace: str, name: str, attempt: int, submission_token: str) -> str:
        """The run_name of that attempt. Pure."""
        return names.label(namespace, name, attempt, submission_token)

    def translate(self, job: Job) -> Request:
        """The job as a request of jobs/runs/submit. Pure."""
        return translate.translate(job)

    def model_wanted(self, job: Job) -> ModelWanted | None:
        """The registered model that the job has to leave behind. Pure."""
        return translate.model_wanted(job)

    def forbidden_overrides(self) -> frozenset[str]:
        """Fields of spec.databricks that the operator owns, as dotted paths."""
        return overrides.OWNED

    def connect(self, target: Target, tokens: TokenSource, log: AuditLog) -> Connection:
        """A connection to target.host as target.principal. Sends nothing."""
        return DatabricksConnection(target, tokens, log)

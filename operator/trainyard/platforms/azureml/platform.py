"""Azure ML as a `platforms.base.Platform`. Made by `platforms.registry`."""

import warnings

from trainyard.audit.log import AuditLog
from trainyard.core.snapshot import Target
from trainyard.platforms.azureml import names, overrides, translate
from trainyard.platforms.azureml.quota import quota_of
from trainyard.platforms.base import Connection, Job, Request, TokensFor, Wanted
from trainyard.platforms.limits import Quota


class AzureML:
    """The Azure ML platform. Keeps the contract of `platforms.base.Platform`."""

    name = "azureml"

    def label(self, namespace: str, name: str, attempt: int, submission_token: str) -> str:  # noqa: ARG002
        """The name of that attempt's job: the submission token, which the name has to be for there to be one. Pure."""
        return submission_token

    def translate(self, job: Job) -> Request:
        """The job as the body of a PUT. Pure."""
        return translate.translate(job)

    def wanted(self, job: Job) -> Wanted:
        """What has to be fetched when the job has ended. Pure."""
        return translate.wanted(job)

    def code_folder(self, principal: str, scope: str, code_digest: str) -> str:
        """The code asset that the source is uploaded as, below the workspace's id. Pure."""
        return names.code_folder(principal, scope, code_digest)

    def forbidden_overrides(self) -> frozenset[str]:
        """Fields of spec.azureML that the operator owns, as dotted paths."""
        return overrides.OWNED

    def quota(self, target: Target) -> Quota:
        """How often Azure Resource Manager lets that principal ask, in all workspaces of the subscription. Pure."""
        return quota_of(target)

    def load(self) -> None:
        """Imports azure-ai-ml and the packages beside it."""
        with warnings.catch_warnings():
            # Its schemas use what marshmallow 3 says marshmallow 4 will not have.
            warnings.simplefilter("ignore")
            import azure.ai.ml
        import azure.identity
        import azure.mgmt.core
        import azure.storage.blob  # noqa: F401

    def connect(self, target: Target, tokens_for: TokensFor, log: AuditLog) -> Connection:
        """A connection to the workspace at target.host as target.principal. Sends nothing."""
        from trainyard.platforms.azureml.connection import AzureMLConnection

        return AzureMLConnection(target, tokens_for, log)

"""Azure ML as a `platforms.base.Platform` and a `platforms.serving.ServingPlatform`. Made by `platforms.registry`."""

import warnings
from typing import TYPE_CHECKING

from trainyard.api.workspace import MLWorkspaceSpec
from trainyard.audit.log import AuditLog
from trainyard.core.serving.plan import EndpointPlan
from trainyard.core.snapshot import Target
from trainyard.platforms import serving_names
from trainyard.platforms.azureml import names, overrides, serving_translate, translate
from trainyard.platforms.azureml.quota import quota_of
from trainyard.platforms.base import Connection, Job, Request, TokensFor, Wanted
from trainyard.platforms.limits import Quota
from trainyard.platforms.serving import EndpointRequest, Endpoints

if TYPE_CHECKING:
    from trainyard.platforms.azureml.connection import AzureMLConnection


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

    def endpoint_name(self, wanted: str | None, workspace: MLWorkspaceSpec, namespace: str, name: str) -> str:
        """The name of an endpoint; names are shared by a whole region. Pure."""
        return serving_names.endpoint_name(wanted, workspace, namespace, name, most=serving_names.AZURE_ML_MOST)

    def model_name(self, name: str, workspace: MLWorkspaceSpec) -> str:  # noqa: ARG002 - the contract's signature
        """The registered name of a name in spec.models: the same. Pure. Raises TranslationError."""
        return serving_translate.model_name(name)

    def translate_endpoint(
        self, plan: EndpointPlan, workspace: MLWorkspaceSpec | None, kept: frozenset[str] = frozenset()
    ) -> EndpointRequest:
        """The plan as bodies of an online endpoint and its deployments. Pure. Raises TranslationError."""
        return serving_translate.translate_endpoint(plan, workspace, kept)

    def endpoints(self, connection: "AzureMLConnection") -> Endpoints:
        """The endpoints of a connection that `connect` made."""
        return connection.endpoints

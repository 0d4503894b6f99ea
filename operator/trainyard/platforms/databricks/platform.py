"""Databricks as a `platforms.base.Platform` and a `platforms.serving.ServingPlatform`. Made by `platforms.registry`."""

from typing import Any

from trainyard.api.workspace import MLWorkspaceSpec
from trainyard.audit.log import AuditLog
from trainyard.core.serving.plan import EndpointPlan
from trainyard.core.snapshot import Target
from trainyard.platforms.base import Connection, Job, Request, TokensFor, Wanted
from trainyard.platforms.databricks import names, overrides, serving_translate, translate
from trainyard.platforms.databricks.connection import DatabricksConnection
from trainyard.platforms.limits import Quota
from trainyard.platforms.serving import EndpointRequest, Endpoints
from trainyard.platforms.serving_names import DATABRICKS_MOST, endpoint_name

# What tokens of the exchange are good for (databricks-sdk oidc.py).


class Databricks:
    """The Databricks platform. Keeps the contract of `platforms.base.Platform`."""

    name = "databricks"

    def label(self, namespace: str, name: str, attempt: int, submission_token: str) -> str:
        """The run_name of that attempt. Pure."""
        return names.label(namespace, name, attempt, submission_token)

    def translate(self, job: Job) -> Request:
        """The job as a request of jobs/runs/submit. Pure."""
        return translate.translate(job)

    def wanted(self, job: Job) -> Wanted:
        """What has to be fetched when the job has ended. Pure."""
        return translate.wanted(job)

    def code_folder(self, principal: str, scope: str, code_digest: str) -> str:
        """Where the source is uploaded. Pure."""
        return names.code_folder(principal, scope, code_digest)

    def forbidden_overrides(self) -> frozenset[str]:
        """Fields of spec.databricks that the operator owns, as dotted paths."""
        return overrides.OWNED

    def quota(self, target: Target) -> Quota:
        """Per workspace and principal, below the lowest published limit that matters: 35 submissions per second."""
        return Quota(f"databricks {target.host} {target.principal}", rate=20.0, burst=40)

    def load(self) -> None:
        """Imports databricks-sdk."""
        import databricks.sdk  # noqa: F401

    def connect(self, target: Target, tokens_for: TokensFor, log: AuditLog) -> Connection:
        """A connection to target.host as target.principal. Sends nothing."""
        return DatabricksConnection(target, tokens_for(""), log)

    def endpoint_name(self, wanted: str | None, workspace: MLWorkspaceSpec, namespace: str, name: str) -> str:
        """The name of the endpoint, within 63 characters. Pure."""
        return endpoint_name(wanted, workspace, namespace, name, most=DATABRICKS_MOST)

    def model_name(self, name: str, workspace: MLWorkspaceSpec) -> str:
        """catalog.schema.model. Pure."""
        return serving_translate.model_name(name, workspace)

    def translate_endpoint(
        self, plan: EndpointPlan, workspace: MLWorkspaceSpec | None, kept: frozenset[str] = frozenset()
    ) -> EndpointRequest:
        """The plan as an endpoint of Model Serving. Pure."""
        return serving_translate.translate(plan, workspace, kept)

    def endpoints(self, connection: Any) -> Endpoints:
        """The endpoints of a connection of this platform's own."""
        assert isinstance(connection, DatabricksConnection)  # noqa: S101  (what `connect` made)
        return connection.endpoints

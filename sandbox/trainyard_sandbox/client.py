"""A small typed client of the control API, for tests and the demo.

It reads `sandbox.json`; it never talks to the platform's host.
"""

from __future__ import annotations

import base64
import json
import ssl
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx

from trainyard_sandbox.azure_client import AzureControl
from trainyard_sandbox.azure_jobs_client import AzureJobsControl
from trainyard_sandbox.azure_serving_client import AzureServingControl
from trainyard_sandbox.identity_client import IdentityControl
from trainyard_sandbox.serving_client import ServingControl


@dataclass(frozen=True)
class AzureAddress:
    """The part `azureML` of `sandbox.json`: one workspace, and what a client must be told of its cloud."""

    resource_manager: str
    authority: str
    storage_suffix: str
    ml_resource: str
    data_hosts: tuple[str, ...]
    subscription_id: str
    resource_group: str
    workspace_name: str
    tenant_id: str
    region: str
    imds: str
    """The instance metadata service, plain http: what AZURE_POD_IDENTITY_AUTHORITY_HOST takes."""
    graph: str
    """Microsoft Graph; its tokens are for https://graph.microsoft.com."""

    @property
    def workspace_scope(self) -> str:
        """Resource id of the workspace."""
        group = f"/subscriptions/{self.subscription_id}/resourceGroups/{self.resource_group}"
        return f"{group}/providers/Microsoft.MachineLearningServices/workspaces/{self.workspace_name}"

    @property
    def workspace_url(self) -> str:
        """The workspace in Azure Resource Manager, without a slash at the end."""
        return self.resource_manager + self.workspace_scope

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> AzureAddress:
        """Read from the part's JSON."""
        return cls(
            resource_manager=document["resourceManager"],
            authority=document["authority"],
            storage_suffix=document["storageSuffix"],
            ml_resource=document["mlResource"],
            data_hosts=tuple(document["dataHosts"]),
            subscription_id=document["subscriptionId"],
            resource_group=document["resourceGroup"],
            workspace_name=document["workspaceName"],
            tenant_id=document["tenantId"],
            region=document["region"],
            imds=document["imds"],
            graph=document["graph"],
        )


@dataclass(frozen=True)
class SandboxAddress:
    """What `sandbox.json` says."""

    host: str
    account_host: str
    workspace_id: str
    account_id: str
    control_url: str
    ca_file: Path
    pid: int
    azure: AzureAddress

    @property
    def imds(self) -> str:
        """The instance metadata service; see `AzureAddress.imds`."""
        return self.azure.imds

    @classmethod
    def read(cls, sandbox_json: Path) -> SandboxAddress:
        """The address of a sandbox that is ready."""
        document = json.loads(sandbox_json.read_text())
        databricks = document["databricks"]
        return cls(
            host=databricks["host"],
            account_host=databricks["accountHost"],
            workspace_id=databricks["workspaceId"],
            account_id=databricks["accountId"],
            control_url=document["control"]["url"],
            ca_file=Path(document["caFile"]),
            pid=document["pid"],
            azure=AzureAddress.of(document["azureML"]),
        )

    @classmethod
    def wait_for(cls, sandbox_json: Path, timeout_seconds: float = 60) -> SandboxAddress:
        """The address of a sandbox that is starting.

        Raises:
            TimeoutError: it did not become ready in time.
        """
        deadline = time.monotonic() + timeout_seconds
        while not sandbox_json.exists():
            if time.monotonic() > deadline:
                raise TimeoutError(f"{sandbox_json} did not appear in {timeout_seconds} s")
            time.sleep(0.02)
        return cls.read(sandbox_json)


_ROLES = {False: "roles/servicePrincipal.user", True: "roles/servicePrincipal.manager"}


class ControlError(Exception):
    """The control API refused."""


class SandboxControl(AzureControl, AzureJobsControl, AzureServingControl, IdentityControl, ServingControl):
    """One sandbox's control API. Use it as a context manager, or `close` it."""

    def __init__(self, sandbox_json: Path) -> None:
        self.address = SandboxAddress.read(sandbox_json)
        context = ssl.create_default_context(cafile=str(self.address.ca_file))
        self._http = httpx.Client(base_url=self.address.control_url, verify=context, timeout=30, trust_env=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def call(self, method: str, path: str, body: Any = None, query: Mapping[str, Any] | None = None) -> Any:
        """One request to the control API.

        Raises:
            ControlError: it answered anything but 200.
        """
        response = self._http.request(method, path, json=body, params=query)
        if response.status_code != httpx.codes.OK:
            raise ControlError(f"{method} {path}: {response.status_code} {response.text}")
        return response.json()

    def add_principal(self, display_name: str = "trainer", **fields: Any) -> str:
        """A new service principal (`application_id`, `workspace_access`, `entitlements`, `groups`, `grants`,
        `usable_service_principals`); returns its application id."""
        application_id: str = self.call("POST", "/principals", {"display_name": display_name, **fields})[
            "application_id"
        ]
        return application_id

    def change_principal(self, application_id: str, **fields: Any) -> None:
        """Replace fields of a principal."""
        self.call("PATCH", f"/principals/{application_id}", fields)

    def remove_principal(self, application_id: str) -> None:
        """Delete a principal with its policies."""
        self.call("DELETE", f"/principals/{application_id}")

    def grant(self, principal: str, securable: str, *privileges: str) -> None:
        """Grant to an application id, user or group: Unity Catalog privileges on a full name ("main.ml.iris"),
        permission levels on a workspace path or on "clusters/<id>" and the like, roles on
        "servicePrincipals/<application id>"."""
        self.call("POST", "/grants", {"principal": principal, "securable": securable, "privileges": list(privileges)})

    def revoke(self, principal: str, securable: str, *privileges: str) -> None:
        """Take away what `grant` gave."""
        self.call("DELETE", "/grants", {"principal": principal, "securable": securable, "privileges": list(privileges)})

    def add_names(self, users: Sequence[str] = (), groups: Sequence[str] = ()) -> None:
        """Users and groups that exist, for access control lists."""
        self.call("POST", "/directory", {"users": list(users), "groups": list(groups)})

    def change_group(self, name: str, **fields: Sequence[str]) -> None:
        """Make or change a group: its `entitlements`, and the `groups` it is in."""
        self.call("PUT", f"/groups/{name}", {key: list(value) for key, value in fields.items()})

    def grant_role(self, principal: str, service_principal: str, *, manager: bool = False) -> None:
        """Let an application id, user or group run jobs as a service principal, or manage who may."""
        self.grant(principal, f"servicePrincipals/{service_principal}", _ROLES[manager])

    def revoke_role(self, principal: str, service_principal: str, *, manager: bool = False) -> None:
        """Take the role away."""
        self.revoke(principal, f"servicePrincipals/{service_principal}", _ROLES[manager])

    def change_owner(self, full_name: str, owner: str) -> None:
        """Give a catalog, schema, model, volume or table to an application id, user or group."""
        self.call("PUT", "/owners", {"full_name": full_name, "owner": owner})

    def add_table(self, full_name: str, columns: Mapping[str, str], **fields: Any) -> None:
        """A table (`catalog.schema.table`) with its schema: SQL types by column, and `owner`, `properties` (strings by
        name), `comment`."""
        self.call("POST", "/tables", {"full_name": full_name, "columns": dict(columns), **fields})

    def add_volume(self, full_name: str, owner: str = "admins") -> None:
        """A managed volume (`catalog.schema.volume`) with its schema."""
        self.call("POST", "/volumes", {"full_name": full_name, "owner": owner})

    def add_volume_file(self, path: str, content: bytes) -> None:
        """Put a file into a volume, by its /Volumes path."""
        self.call("POST", "/volumes/files", {"path": path, "content": base64.b64encode(content).decode()})

    def add_policy(
        self,
        application_id: str | None,
        issuer: str,
        subject: str | None,
        audiences: Sequence[str] = (),
        subject_claim: str = "sub",
        **keys: str,
    ) -> str:
        """A federation policy, account-wide without an application id; returns its id. `jwks_json` or `jwks_uri` say
        where the issuer's keys are, unless its discovery document does."""
        body: dict[str, Any] = {"issuer": issuer, "audiences": list(audiences), "subject_claim": subject_claim}
        body |= keys
        body |= {} if application_id is None else {"application_id": application_id}
        body |= {} if subject is None else {"subject": subject}
        policy_id: str = self.call("POST", "/policies", body)["policy_id"]
        return policy_id

    def remove_policy(self, policy_id: str) -> None:
        """Delete a federation policy."""
        self.call("DELETE", f"/policies/{policy_id}")

    def trust_issuer(self, issuer: str, ca_file: Path) -> None:
        """Which CA vouches for an issuer."""
        self.call("POST", "/issuers", {"issuer": issuer, "ca_file": str(ca_file.resolve())})

    def add_fault(self, kind: str, path: str, **fields: Any) -> int:
        """Inject a fault (`method`, `times` with 0 for all, `after_effect`, `status`, `retry_after`, `message`,
        `error_code`, `seconds`, `location`); returns its id."""
        fault_id: int = self.call("POST", "/faults", {"kind": kind, "path": path, **fields})["fault_id"]
        return fault_id

    def faults(self) -> list[dict[str, Any]]:
        """The faults with their `hits`."""
        listed: list[dict[str, Any]] = self.call("GET", "/faults")
        return listed

    def clear_faults(self) -> None:
        """No fault any more; what hangs goes on."""
        self.call("DELETE", "/faults")

    def release(self, fault_id: int | None = None) -> None:
        """Let hanging requests go on."""
        self.call("POST", "/faults/release", {} if fault_id is None else {"fault_id": fault_id})

    def override_discovery(
        self, metadata: Mapping[str, Any] | None = None, oidc: Mapping[str, Any] | None = None
    ) -> None:
        """Fields to say in the discovery documents; none given means the truth again."""
        body = {"metadata": metadata, "oidc": oidc}
        self.call("PUT", "/discovery", {key: value for key, value in body.items() if value is not None})

    def settings(self, **fields: float) -> None:
        """`max_token_lifetime_seconds`, `clock_offset_seconds`."""
        self.call("PUT", "/settings", fields)

    def issue_token(self, application_id: str, lifetime_seconds: float = 3600) -> str:
        """An access token without a federated assertion, for people who have no identity provider at hand."""
        body = {"application_id": application_id, "lifetime_seconds": lifetime_seconds}
        value: str = self.call("POST", "/tokens", body)["value"]
        return value

    def tokens(self) -> list[dict[str, Any]]:
        """Every token ever issued, with its `value`."""
        listed: list[dict[str, Any]] = self.call("GET", "/tokens")
        return listed

    def expire_tokens(self, application_id: str, purpose: str | None = None) -> int:
        """All live tokens of a principal expire now; returns how many."""
        body = {"application_id": application_id} | ({} if purpose is None else {"purpose": purpose})
        expired: int = self.call("POST", "/tokens/expire", body)["expired"]
        return expired

    def requests(self, **filters: Any) -> list[dict[str, Any]]:
        """The platform's request log (`since`, `method`, `path` as a regular expression, `principal`)."""
        listed: list[dict[str, Any]] = self.call("GET", "/requests", query=filters)["requests"]
        return listed

    def clear_requests(self) -> None:
        """Forget the request log."""
        self.call("DELETE", "/requests")

    def runs(self) -> list[dict[str, Any]]:
        """Runs that exist, oldest first, with `paid`; `run_id` is a string."""
        listed: list[dict[str, Any]] = self.call("GET", "/runs")["runs"]
        return listed

    def paid_runs(self) -> int:
        """How many runs were ever paid for, deleted ones included."""
        total: int = self.call("GET", "/runs")["paid_total"]
        return total

    def delete_run(self, run_id: int | str) -> None:
        """Delete a run behind everyone's back, active or not."""
        self.call("DELETE", f"/runs/{run_id}")

    def show_state(self, run_id: int | str, life_cycle_state: str | None) -> None:
        """Have the API show this life-cycle state, known or not; None for the truth again."""
        body = {} if life_cycle_state is None else {"life_cycle_state": life_cycle_state}
        self.call("PUT", f"/runs/{run_id}/shown-state", body)

    def end_run(self, run_id: int | str, **outcome: str) -> None:
        """End a run as the platform would (`life_cycle_state`, `result_state`, `message`, `code`, `type`)."""
        self.call("POST", f"/runs/{run_id}/end", outcome)

    def add_script(self, **script: Any) -> None:
        """Script pretended runs; see engine/scripts.py. Without `run_name`, `tag` and `times`: the default."""
        states = [{"state": state, "seconds": seconds} for state, seconds in script.pop("states", [])]
        self.call("POST", "/scripts", script | ({"states": states} if states else {}))

    def clear_scripts(self) -> None:
        """No script but the built-in default."""
        self.call("DELETE", "/scripts")

    def fail_cluster_starts(self, code: str, **fields: Any) -> None:
        """Have the next cluster starts fail with a termination reason (`type` unless the usual one of the code,
        `parameters` such as `azure_error_message`, `times` with 0 for all, `run_name` as a regular expression,
        `spot_only` for clusters that ask for spot machines without fallback)."""
        self.call("POST", "/cluster-failures", {"code": code, **fields})

    def let_clusters_start(self) -> None:
        """No planned failure any more."""
        self.call("DELETE", "/cluster-failures")

    def break_cluster(self, cluster_id: str, message: str) -> None:
        """Bring a cluster into ERROR; what runs on it fails."""
        self.call("POST", f"/clusters/{cluster_id}/error", {"message": message})

    def compute(self, **fields: Any) -> None:
        """`cluster_start_seconds` says how long a cluster is PENDING; `instance_profiles`, `budget_policies` add what
        an administrator would have registered."""
        self.call("PUT", "/compute", fields)

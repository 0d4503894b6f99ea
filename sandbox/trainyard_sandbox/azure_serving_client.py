"""The part of the control API's client about Azure ML online endpoints; client.py mixes it into `SandboxControl`.

How models behave is scripted for both platforms with `script_serving` of serving_client.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class AzureServingControl:
    """Calls of the control API below `/azure/online-...` that azure/online_control.py serves."""

    def call(self, method: str, path: str, body: Any = None, query: Mapping[str, Any] | None = None) -> Any:
        """One request to the control API; see `SandboxControl.call`."""
        raise NotImplementedError

    def azure_endpoints(self) -> list[dict[str, Any]]:
        """Online endpoints, oldest first: `name`, `state`, `auth_mode`, `traffic`, `tags`, `creator`, `requests`,
        `keys` (every key and token that opens it, to search for where none may be), and `deployments`, each with
        `name`, `state`, `model`, `instance_type`, `capacity`, `reserved_cores`, `environment`, `tags`, `traffic`,
        `answers`, `failure` and `statuses` (how often it answered with which HTTP status)."""
        listed: list[dict[str, Any]] = self.call("GET", "/azure/online-endpoints")
        return listed

    def azure_endpoint(self, name: str) -> dict[str, Any]:
        """One endpoint.

        Raises:
            KeyError: there is none with this name.
        """
        return {endpoint["name"]: endpoint for endpoint in self.azure_endpoints()}[name]

    def azure_deployment(self, endpoint: str, name: str) -> dict[str, Any]:
        """One deployment of an endpoint.

        Raises:
            KeyError: there is none with these names.
        """
        listed: list[dict[str, Any]] = self.azure_endpoint(endpoint)["deployments"]
        return {one["name"]: one for one in listed}[name]

    def edit_azure_endpoint(self, name: str, **changes: Any) -> None:
        """Change an endpoint as by somebody else's hand, at once: `traffic`, `tags`, `auth_mode`, `properties`,
        `creator` (another one is shown)."""
        self.call("PUT", f"/azure/online-endpoints/{name}", changes)

    def delete_azure_endpoint(self, name: str) -> None:
        """Delete an endpoint behind everyone's back, busy or not."""
        self.call("DELETE", f"/azure/online-endpoints/{name}")

    def roll_back_azure_endpoint(self, name: str) -> None:
        """Have the service silently go back to the traffic, tags and settings before the endpoint's last change."""
        self.call("POST", f"/azure/online-endpoints/{name}/rollback")

    def edit_azure_deployment(self, endpoint: str, name: str, **changes: Any) -> None:
        """Change a deployment as by somebody else's hand: `capacity`, `tags`, `model` (its resource id),
        `environment`."""
        self.call("PUT", f"/azure/online-endpoints/{endpoint}/deployments/{name}", changes)

    def delete_azure_deployment(self, endpoint: str, name: str) -> None:
        """Delete a deployment behind everyone's back, with its traffic."""
        self.call("DELETE", f"/azure/online-endpoints/{endpoint}/deployments/{name}")

    def fail_azure_deployment(self, endpoint: str, name: str, **failure: str) -> None:
        """A deployment that served loses its machines and answers no more (`code`, `message`)."""
        self.call("POST", f"/azure/online-endpoints/{endpoint}/deployments/{name}/failure", failure)

    def azure_serving_settings(self, **fields: Any) -> None:
        """`endpoint_limit` (of the subscription), `deployment_limit` (of an endpoint), `endpoint_seconds` (how long an
        endpoint is Creating or Updating), `delete_seconds`, `metric_delay_seconds`, `busy_status` (409 or 400),
        `endpoint_failure` (what changes of endpoints fail with; "" lets them succeed), `taken_names` (endpoints of
        other workspaces of the region), `secrets` (by reference, such as "azureml://connections/c/credentials/key").
        Without fields, all as in the beginning. Quotas of vCPUs are `azure_compute_settings(family_cores=...)`."""
        self.call("PUT", "/azure/online-settings", fields)

"""The part of the control API's client about served models: `SandboxControl` inherits it.

`platform` is "databricks" or "azure"; without it, and without an endpoint or a served name, all match.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class ServingControl:
    """What befalls the models behind endpoints, on either platform."""

    def call(self, method: str, path: str, body: Any = None, query: Mapping[str, Any] | None = None) -> Any:
        """One request to the control API; see `SandboxControl.call`."""
        raise NotImplementedError

    def script_serving(self, **script: Any) -> None:
        """Have served models behave so from now on, those that serve already too.

        Args:
            script: which ones (`platform`, regular expressions `endpoint` and `served`, `times` for so many that are
                provisioned) and how: `provisioning_seconds`, `provisioning_error`, `cold_start_seconds`,
                `idle_seconds`, `pretend` (no process), `predictions` (one per row), `latency_seconds`, `error_rate`
                with `error_status` and `error_message`. Of several that match, a later one wins, field by field.
        """
        self.call("POST", "/serving/scripts", script)

    def clear_serving_scripts(self) -> None:
        """No script any more: what serves behaves as it is."""
        self.call("DELETE", "/serving/scripts")

    def served_models(self, platform: str | None = None, endpoint: str | None = None) -> list[dict[str, Any]]:
        """What is there, oldest first: `platform`, `endpoint`, `served`, `state` (creating, ready, recovering, stopped,
        failed), `message`, `requests`, `server_errors`, `cold_starts`, `log`."""
        listed: list[dict[str, Any]] = self.call("GET", "/serving/models", query=_given(platform, endpoint, None))
        return listed

    def scale_to_zero(self, endpoint: str, served: str | None = None, platform: str | None = None) -> None:
        """Stop idle models that may scale to zero, as after their idle seconds."""
        self.call("POST", "/serving/scale-to-zero", _given(platform, endpoint, served))

    def crash_served_model(self, endpoint: str, served: str | None = None, platform: str | None = None) -> None:
        """Kill models' processes; the platform starts them again."""
        self.call("POST", "/serving/crash", _given(platform, endpoint, served))

    def databricks_endpoints(self) -> list[dict[str, Any]]:
        """Endpoints of Model Serving: `name`, `id`, `creator`, `ready`, `config_update`, `config_version`, `tags`,
        `traffic` (percentages), `served` and `pending` (deployment states by name)."""
        listed: list[dict[str, Any]] = self.call("GET", "/databricks/endpoints")
        return listed

    def edit_databricks_endpoint(self, name: str, **edit: Any) -> None:
        """Edit an endpoint by hand: `config` as an update's body, `traffic` (percentages, at once), `tags` (replaces
        all), `creator` (shows another one)."""
        self.call("PATCH", f"/databricks/endpoints/{name}", edit)

    def delete_databricks_endpoint(self, name: str) -> None:
        """Delete an endpoint behind everyone's back."""
        self.call("DELETE", f"/databricks/endpoints/{name}")

    def cancel_databricks_update(self, name: str) -> None:
        """Have the platform give an endpoint's update up: it ends UPDATE_CANCELED."""
        self.call("POST", f"/databricks/endpoints/{name}/cancel-update")

    def databricks_serving_limits(self, **limits: float) -> None:
        """`endpoints` (1000) and `concurrency` (4096) of the workspace, `update_seconds` that an update takes at
        least."""
        self.call("PUT", "/databricks/serving-limits", limits)


def _given(platform: str | None, endpoint: str | None, served: str | None) -> dict[str, str]:
    named = {"platform": platform, "endpoint": endpoint, "served": served}
    return {name: value for name, value in named.items() if value is not None}

"""The part of the control API's client about Azure ML jobs and computes; client.py mixes it into `SandboxControl`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


class AzureJobsControl:
    """Calls of the control API below `/azure` that job_control.py serves."""

    def call(self, method: str, path: str, body: Any = None, query: Mapping[str, Any] | None = None) -> Any:
        """One request to the control API; see `SandboxControl.call`."""
        raise NotImplementedError

    def azure_jobs(self) -> list[dict[str, Any]]:
        """Jobs that exist, oldest first: `name`, `status`, `history` (of statuses), `paid`, `definition`, `tags` and
        what else job_control.py shows."""
        listed: list[dict[str, Any]] = self.call("GET", "/azure/jobs")["jobs"]
        return listed

    def azure_job(self, name: str) -> dict[str, Any]:
        """One job.

        Raises:
            KeyError: there is none with this name.
        """
        return {job["name"]: job for job in self.azure_jobs()}[name]

    def azure_paid_total(self) -> int:
        """How many jobs were ever paid for, deleted ones included."""
        total: int = self.call("GET", "/azure/jobs")["paid_total"]
        return total

    def azure_created_total(self) -> int:
        """How many jobs were ever created, deleted ones included."""
        total: int = self.call("GET", "/azure/jobs")["created_total"]
        return total

    def delete_azure_job(self, name: str) -> None:
        """Delete a job behind everyone's back, active or not."""
        self.call("DELETE", f"/azure/jobs/{name}")

    def set_azure_job_state(self, name: str, status: str | None) -> None:
        """Have the API show this status, known or not; None for the truth again."""
        self.call("PUT", f"/azure/jobs/{name}/shown-status", {} if status is None else {"status": status})

    def complete_azure_job(self, name: str) -> None:
        """End a job well."""
        self.call("POST", f"/azure/jobs/{name}/end", {"status": "Completed"})

    def end_azure_job(self, name: str, **end: Any) -> None:
        """End a job as the service would (`status` Completed, Failed or Canceled, `code`, `message`, `inner` codes)."""
        self.call("POST", f"/azure/jobs/{name}/end", end)

    def preempt_azure_job(self, name: str) -> None:
        """Take a running job's machines away: it goes back to the queue and begins again."""
        self.call("POST", f"/azure/jobs/{name}/preempt", {})

    def script_azure_job(self, **script: Any) -> None:
        """Script pretended jobs; see azure/engine/scripts.py (`states` as pairs of status and seconds). Without `name`,
        `display_name`, `tag` and `times`: the default of the engine `pretend`."""
        states: Sequence[tuple[str, float]] = script.pop("states", [])
        steps = [{"state": state, "seconds": seconds} for state, seconds in states]
        self.call("POST", "/azure/scripts", script | ({"states": steps} if steps else {}))

    def clear_azure_scripts(self) -> None:
        """No script but the built-in default."""
        self.call("DELETE", "/azure/scripts")

    def add_azure_compute(
        self,
        name: str,
        compute_type: str = "AmlCompute",
        identities: Mapping[str, str] | None = None,
        **properties: Any,
    ) -> None:
        """A compute that is there at once: `vmSize`, `vmPriority`, `scaleSettings` of a cluster; `instanceTypes`,
        `namespace` of Kubernetes; `resource_id` of what was attached. `identities` are client ids of managed identities
        that are assigned to it, by name."""
        attached = properties.pop("resource_id", "/subscriptions/attached" if compute_type == "Kubernetes" else None)
        defaults: dict[str, Any] = {}
        if compute_type != "Kubernetes":
            defaults["vmSize"] = "Standard_DS3_v2"
        if compute_type == "AmlCompute":
            defaults["scaleSettings"] = {"minNodeCount": 0, "maxNodeCount": 4}
        given = {"computeType": compute_type, "properties": defaults | properties}
        given |= {"resourceId": attached} if attached else {}
        self.call("POST", "/azure/computes", {"name": name, "properties": given, "identities": dict(identities or {})})

    def set_azure_compute_state(self, name: str, provisioning_state: str, **error: str) -> None:
        """Bring a compute into a provisioning state; for Failed with `code` and `message`."""
        self.call("PUT", f"/azure/computes/{name}", {"provisioning_state": provisioning_state, **error})

    def delete_azure_compute(self, name: str) -> None:
        """Delete a compute behind everyone's back."""
        self.call("DELETE", f"/azure/computes/{name}")

    def azure_compute_settings(self, **fields: Any) -> int:
        """`provisioning_seconds`, `node_start_seconds`, `serverless_cores` (quota; `no_serverless_limit=True` for
        none), `family_cores` (quotas by family of sizes, as the region tells them; {} for none), `build_seconds`,
        `fail_builds` (what builds fail with; "" lets them succeed). Returns how many images were built."""
        builds: int = self.call("PUT", "/azure/compute-settings", fields)["builds"]
        return builds

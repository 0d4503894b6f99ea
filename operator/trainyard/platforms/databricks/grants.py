"""Gives the identity that a run's code runs as what it needs of ours: the uploaded source, the experiment.

Called by `connection` before a run is started, where the code does not run as its submitter. Grants on nothing but
what the submitter has made or may manage, and nothing that is held already. Never takes anything away: PATCH adds
(Databricks Permissions API, "Update object permissions").
"""

import json
import shlex
from collections.abc import Mapping
from typing import Any

import structlog

from trainyard.core.errors import Denied, Refused
from trainyard.platforms.base import RunsAs
from trainyard.platforms.databricks.client import DatabricksClient

log = structlog.get_logger(__name__)

PERMISSIONS = "/api/2.0/permissions"
WORKSPACE = "/api/2.0/workspace"

# Levels of an object of the workspace, each including those before it (Databricks documentation, "Access control
# lists").
LEVELS = ("CAN_READ", "CAN_RUN", "CAN_EDIT", "CAN_MANAGE")


class Grants:
    """Grants through one client."""

    def __init__(self, client: DatabricksClient) -> None:
        self._client = client

    def source(self, runs_as: RunsAs, code_folder: str) -> None:
        """Lets the identity read the folder of the source."""
        status = self._client.do("GET", f"{WORKSPACE}/get-status", query={"path": code_folder})
        self._grant(runs_as, f"directories/{status.get('object_id')}", "CAN_READ", f"folder {code_folder}")

    def experiment(self, runs_as: RunsAs, experiment_id: str) -> None:
        """Lets the identity log to the experiment."""
        self._grant(runs_as, f"experiments/{experiment_id}", "CAN_EDIT", f"experiment {experiment_id}")

    def _grant(self, runs_as: RunsAs, where: str, level: str, spoken: str) -> None:
        try:
            held = self._client.do("GET", f"{PERMISSIONS}/{where}")
        except (Denied, Refused) as error:
            # Made by somebody else, whose list is not ours to see: they may well have given it, through a group even.
            log.info("rights not looked at", identity=runs_as.name, on=where, reason=error.reason, error=error.message)
            return
        if level_of(held, runs_as) in LEVELS[LEVELS.index(level) :]:
            return
        entry = {**named(runs_as), "permission_level": level}
        try:
            self._client.do("PATCH", f"{PERMISSIONS}/{where}", body={"access_control_list": [entry]})
        except (Denied, Refused) as error:
            raise Denied(
                f"{runs_as.name} can not be given {level} on {spoken}: {error.message} Have somebody who manages it "
                f"grant it: {command(where, runs_as, level)}"
            ) from error


def named(identity: RunsAs) -> dict[str, str]:
    """The identity as an access control list names it."""
    return {"user_name" if identity.kind == "user" else "service_principal_name": identity.name}


def level_of(permissions: Mapping[str, Any], identity: RunsAs) -> str | None:
    """The highest level that an answer of the Permissions API shows for that identity itself."""
    ((key, name),) = named(identity).items()
    shown = [
        str(each.get("permission_level"))
        for entry in permissions.get("access_control_list") or ()
        if entry.get(key) == name
        for each in entry.get("all_permissions") or ()
    ]
    return max((level for level in shown if level in LEVELS), key=LEVELS.index, default=None)


def command(where: str, identity: RunsAs, level: str) -> str:
    """The command of the Databricks CLI that grants a level on an object of the workspace."""
    kind, _, object_id = where.partition("/")
    ((key, name),) = named(identity).items()
    body = json.dumps({"access_control_list": [{key: name, "permission_level": level}]})
    return shlex.join(["databricks", "permissions", "update", kind, object_id, "--json", body])

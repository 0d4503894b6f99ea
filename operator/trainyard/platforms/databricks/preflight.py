"""Looks, before anything is started, at each right and thing that a request will fail without. Only reads.

Called by `connection` in a lane's thread. What is missing is told with the statement, command or page that grants it;
what the platform does not let this identity find out is Unknown, never Missing: a run that might work is not held up.
Nothing is remembered here: rights change while an operator runs.
"""

import time
from collections.abc import Sequence

from trainyard.core.remote import Finding
from trainyard.platforms.base import Need
from trainyard.platforms.databricks import needs
from trainyard.platforms.databricks.asked import REFUSALS, Asked
from trainyard.platforms.databricks.client import DatabricksClient
from trainyard.platforms.databricks.object_rights import ObjectRights
from trainyard.platforms.databricks.serving_checks import PEOPLE, ServingChecks
from trainyard.platforms.databricks.unity_rights import UnityRights
from trainyard.platforms.verdicts import Check, NotToldError

# Seconds for all checks together; whoever waits for them gives up soon after.
PATIENCE = 35.0
MAX_NAME = 512
MAX_FIELD = 128
MAX_MESSAGE = 1024


def findings(client: DatabricksClient, principal: str, wanted: Sequence[Need]) -> tuple[Finding, ...]:
    """What each need meets, in their order.

    Raises:
        Unreachable, Unauthenticated, IdentityError: nothing can be found out at the moment.
    """
    asked = Asked(client, principal, time.monotonic() + PATIENCE)
    registrars = {need.name: need.holder for need in wanted if need.right == needs.REGISTER}
    checks = _checks(UnityRights(asked, registrars), ObjectRights(asked), ServingChecks(asked))
    return tuple(_finding(need, checks, principal) for need in wanted)


def _checks(unity: UnityRights, objects: ObjectRights, serving: ServingChecks) -> dict[tuple[str, str] | str, Check]:
    """By kind, or by kind and right where one kind has several ways."""
    return {
        needs.CATALOG: unity.plain,
        needs.SCHEMA: unity.plain,
        needs.VOLUME: unity.plain,
        needs.TABLE: unity.plain,
        (needs.TABLE, needs.WRITE): unity.written_table,
        needs.MODEL: unity.model,
        (needs.MODEL, needs.EXECUTE): unity.plain,
        needs.MODEL_VERSION: serving.signature,
        needs.EXTERNAL_LOCATION: unity.location,
        needs.WORKSPACE_PATH: objects.workspace_path,
        needs.VOLUME_PATH: objects.volume_path,
        needs.WORKSPACE: objects.entitlement,
        needs.CLUSTER: objects.cluster,
        needs.POLICY: objects.policy,
        needs.POOL: objects.pool,
        needs.BUDGET_POLICY: objects.budget_policy,
        needs.NODE_TYPE: objects.offered,
        needs.SPARK_VERSION: objects.offered,
        needs.JOB: objects.job,
        needs.JOB_NAME: objects.job,
        needs.SECRET: objects.secret,
        needs.SERVICE_PRINCIPAL: objects.principal_user,
        needs.USER: objects.other_user,
        **dict.fromkeys(((each, needs.EXISTS) for each in PEOPLE), serving.person),
        needs.ENDPOINT: serving.endpoint,
    }


def _finding(need: Need, checks: dict[tuple[str, str] | str, Check], principal: str) -> Finding:
    name = f"{need.right} on {need.kind} {need.name}"
    if need.holder != principal:
        name += f" for {need.holder}"
    check = checks.get((need.kind, need.right)) or checks.get(need.kind)
    name, field = name[:MAX_NAME], need.field[:MAX_FIELD]
    if check is None:
        return Finding(name, field, "Unknown", f"this version does not know how to look at a {need.kind}")
    try:
        found = check(need)
    except NotToldError as untold:
        return Finding(name, field, "Unknown", untold.message[:MAX_MESSAGE])
    except REFUSALS as error:
        return Finding(name, field, "Unknown", f"can not be found out: {error.message}"[:MAX_MESSAGE])
    return Finding(name, field, found.outcome, found.message[:MAX_MESSAGE])

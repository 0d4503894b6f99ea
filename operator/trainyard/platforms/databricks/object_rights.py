"""Whether an identity may use what a workspace has: clusters, pools, policies, jobs, folders, secrets, roles.

Called by `preflight`; only reads. Levels: Databricks documentation, "Access control lists". An access list is shown to
whoever manages the object; for others, that the object can be seen says as much as its lowest level does.
"""

from collections.abc import Mapping
from typing import Any

from trainyard.core.errors import Denied, Missing, Refused
from trainyard.platforms.base import Need
from trainyard.platforms.databricks import needs, remedies
from trainyard.platforms.databricks.asked import REFUSALS, Asked
from trainyard.platforms.databricks.named_jobs import NamedJobs
from trainyard.platforms.verdicts import Found, NotToldError, missing, passed

PERMISSIONS = "/api/2.0/permissions"
# Levels of each kind of object, each including those before it.
LEVELS = {
    "clusters": ("CAN_ATTACH_TO", "CAN_RESTART", "CAN_MANAGE"),
    "instance-pools": ("CAN_ATTACH_TO", "CAN_MANAGE"),
    "cluster-policies": ("CAN_USE", "CAN_MANAGE"),
    "jobs": ("CAN_VIEW", "CAN_MANAGE_RUN", "IS_OWNER", "CAN_MANAGE"),
    "directories": ("CAN_READ", "CAN_RUN", "CAN_EDIT", "CAN_MANAGE"),
    "files": ("CAN_READ", "CAN_RUN", "CAN_EDIT", "CAN_MANAGE"),
    "notebooks": ("CAN_READ", "CAN_RUN", "CAN_EDIT", "CAN_MANAGE"),
    "repos": ("CAN_READ", "CAN_RUN", "CAN_EDIT", "CAN_MANAGE"),
}
OBJECT_TYPES = {"DIRECTORY": "directories", "FILE": "files", "NOTEBOOK": "notebooks", "REPO": "repos"}
LIVE = frozenset({"RUNNING", "RESIZING"})
RULE_SETS = "/api/2.0/preview/accounts/access-control/rule-sets"


class ObjectRights:
    """Looks rights up through the requests of one preflight."""

    def __init__(self, asked: Asked) -> None:
        self._asked = asked

    def cluster(self, need: Need) -> Found:
        """An existing cluster: attaching takes CAN_ATTACH_TO, and CAN_RESTART if it has to be started first."""
        cluster = self._object(need, "clusters", "/api/2.1/clusters/get", cluster_id=need.name)
        if isinstance(cluster, Found):
            return cluster
        state = str(cluster.get("state", ""))
        if state == "ERROR":
            why = cluster.get("state_message") or state
            return missing(f"cluster {need.name} is broken: {why}. Repair it, or name another.")
        wanted = "CAN_ATTACH_TO" if state in LIVE else "CAN_RESTART"
        return self._level(need, "clusters", need.name, wanted, seen="CAN_ATTACH_TO")

    def pool(self, need: Need) -> Found:
        """An instance pool."""
        pool = self._object(need, "instance-pools", "/api/2.0/instance-pools/get", instance_pool_id=need.name)
        if isinstance(pool, Found):
            return pool
        return self._level(need, "instance-pools", need.name, "CAN_ATTACH_TO", seen="CAN_ATTACH_TO")

    def policy(self, need: Need) -> Found:
        """A cluster policy."""
        policy = self._object(need, "cluster-policies", "/api/2.0/policies/clusters/get", policy_id=need.name)
        if isinstance(policy, Found):
            return policy
        return self._level(need, "cluster-policies", need.name, "CAN_USE", seen="CAN_USE")

    def job(self, need: Need) -> Found:
        """A job, by id or by name."""
        job_id = need.name
        if need.kind == needs.JOB_NAME:
            try:
                job_id = NamedJobs(self._asked.client).id_of(need.name)
            except Missing as error:
                return missing(error.message)
        job = self._object(need, "jobs", "/api/2.2/jobs/get", object_id=job_id, job_id=job_id)
        if isinstance(job, Found):
            return job
        return self._level(need, "jobs", job_id, "CAN_MANAGE_RUN", seen="CAN_VIEW")

    def workspace_path(self, need: Need) -> Found:
        """A folder or file of the workspace."""
        path = need.name.removeprefix("/Workspace") or "/"
        try:
            status = self._asked.get("/api/2.0/workspace/get-status", path=path)
        except (Denied, Missing) as error:
            if isinstance(error, Denied) and need.holder != self._asked.principal:
                raise NotToldError(f"{need.name} can not be seen by who submits: {error.message}") from error
            return missing(
                f"{need.name} is not there, or {self._asked.principal} may not see it. Put it there, or share it: the "
                "folder's menu > Share (Permissions), Can View."
            )
        kind = OBJECT_TYPES.get(str(status.get("object_type")), "directories")
        return self._level(need, kind, str(status.get("object_id")), "CAN_READ", seen="CAN_READ")

    def volume_path(self, need: Need) -> Found:
        """A file or folder of a volume that has to be there."""
        path = need.name.rstrip("/")
        if any(self._asked.there(f"/api/2.0/fs/{kind}{path}") for kind in ("directories", "files")):
            return passed(f"{need.name} is there")
        return missing(f"{need.name} is not there: upload it, for example databricks fs cp -r LOCAL dbfs:{path}")

    def secret(self, need: Need) -> Found:
        """A secret: that it is there, and that its scope may be read."""
        scope, _, key = need.name.partition("/")
        mine = need.holder == self._asked.principal
        acl = remedies.secret_acl(scope, need.holder)
        try:
            listed = self._asked.get("/api/2.0/secrets/list", scope=scope).get("secrets") or ()
        except Missing:
            return missing(f"there is no secret scope {scope}. Create it: databricks secrets create-scope {scope}")
        except Denied as error:
            if not mine:
                raise NotToldError(f"scope {scope} can not be seen by who submits; if need be: {acl}") from error
            return missing(f"{need.holder} may not read scope {scope}. Who manages it can run: {acl}")
        if not any(row.get("key") == key for row in listed):
            return missing(f"scope {scope} has no secret {key}. Put it there: {remedies.secret(scope, key)}")
        if mine:
            return passed(f"{need.holder} may read {need.name}")
        return self._secret_of_other(need, scope, acl)

    def entitlement(self, need: Need) -> Found:
        """The right to make any cluster."""
        person, remedy = self._asked.person(need.holder), remedies.entitlement(need.holder)
        held = passed(f"{need.holder} may create clusters")
        if person.admin or need.right in person.entitlements:
            return held
        try:
            if need.right in self._asked.entitlements_of(person):
                return held
        except NotToldError as untold:
            raise NotToldError(f"{untold.message}; if clusters are refused: {remedy}") from untold
        return missing(f"{need.holder} may not create clusters. {remedy}")

    def principal_user(self, need: Need) -> Found:
        """The role that lets one identity run things as a service principal (iam.AccountAccessControlProxyAPI)."""
        name = f"servicePrincipals/{need.name}"
        found = self._has_role(name, "roles/servicePrincipal.user", need.holder)
        return found or missing(
            f"{need.holder} may not run as service principal {need.name}. {remedies.role(need.name, need.holder)}"
        )

    def budget_policy(self, need: Need) -> Found:
        """The role that lets an identity spend on a budget policy."""
        found = self._has_role(f"budgetPolicies/{need.name}", "roles/budgetPolicy.user", need.holder)
        return found or missing(
            f"{need.holder} may not use budget policy {need.name}. Settings > Compute > Budget policies > the policy > "
            f"Permissions: grant {need.holder} User"
        )

    def other_user(self, need: Need) -> Found:
        """Running as a user: they themselves may, and admins of the workspace."""
        if need.name == need.holder or self._asked.person(need.holder).admin:
            return passed(f"{need.holder} may run as {need.name}")
        return missing(
            f"{need.holder} may not run as user {need.name}: only a workspace admin may run as somebody else. Have the "
            "workspace's runAs name a service principal instead."
        )

    def offered(self, need: Need) -> Found:
        """A machine type or a runtime that the workspace has to offer."""
        nodes = need.kind == needs.NODE_TYPE
        path = "/api/2.1/clusters/list-node-types" if nodes else "/api/2.1/clusters/spark-versions"
        rows, key = ("node_types", "node_type_id") if nodes else ("versions", "key")
        offered = sorted(str(row.get(key)) for row in self._asked.get(path).get(rows) or ())
        if need.name in offered:
            return passed(f"the workspace offers {need.name}")
        near = [name for name in offered if name.partition(".")[0] == need.name.partition(".")[0]] or offered
        has = ", ".join(near[:5]) or "none"
        return missing(
            f"the workspace does not offer {need.kind} {need.name}; it has, for example, {has}. Correct the compute "
            "class or the runtime of the workspace."
        )

    def _secret_of_other(self, need: Need, scope: str, acl: str) -> Found:
        try:
            items = self._asked.get("/api/2.0/secrets/acls/list", scope=scope).get("items") or ()
        except REFUSALS as error:
            raise NotToldError(f"who may read scope {scope} is shown to who manages it; if need be: {acl}") from error
        person = self._asked.person(need.holder)
        if person.admin or any(row.get("principal") in person.names for row in items):
            return passed(f"{need.holder} may read {need.name}")
        if not person.complete:
            raise NotToldError(f"the groups of {need.holder} can not be read; if need be: {acl}")
        return missing(f"{need.holder} may not read scope {scope}. Who manages it can run: {acl}")

    def _object(self, need: Need, kind: str, path: str, object_id: str = "", **query: str) -> Mapping[str, Any] | Found:
        """What the need names; a Found where it is not there, or not for the one who asks."""
        try:
            return self._asked.get(path, **query)
        except Denied as error:
            if need.holder != self._asked.principal:
                raise NotToldError(f"who submits can not see {need.kind} {need.name}: {error.message}") from error
            command = remedies.level(kind, object_id or need.name, need.holder, need.right)
            return missing(f"{need.holder} lacks {need.right} on {need.kind} {need.name}: {error.message} {command}")
        except (Missing, Refused) as error:
            return missing(f"{need.kind} {need.name} can not be had: {error.message} Correct what names it.")

    def _level(self, need: Need, kind: str, object_id: str, wanted: str, *, seen: str) -> Found:
        """Whether the level is held. `seen` is what who asks holds at least, since the object was shown."""
        order = LEVELS[kind]
        enough = order[order.index(wanted) :]
        held = passed(f"{need.holder} holds {wanted} on {need.kind} {need.name}")
        mine, person = need.holder == self._asked.principal, self._asked.person(need.holder)
        if person.admin or (mine and seen in enough):
            return held
        remedy = remedies.level(kind, object_id, need.holder, wanted)
        try:
            listed = self._asked.get(f"{PERMISSIONS}/{kind}/{object_id}").get("access_control_list") or ()
        except REFUSALS as error:
            raise NotToldError(
                f"who holds {wanted} on {need.kind} {need.name} is shown to who manages it; if need be: {remedy}"
            ) from error
        if any(_reaches(row, person.names) and _levels(row) & set(enough) for row in listed):
            return held
        if not person.complete:
            raise NotToldError(f"the groups of {need.holder} can not be read; if need be: {remedy}")
        return missing(f"{need.holder} lacks {wanted} on {need.kind} {need.name}. Who manages it can run: {remedy}")

    def _has_role(self, resource: str, role: str, holder: str) -> Found | None:
        """Passed if the holder has the role; None if it has not."""
        name = f"accounts/{self._asked.account_id()}/{resource}/ruleSets/default"
        try:
            rules = self._asked.get(RULE_SETS, name=name, etag="").get("grant_rules") or ()
        except REFUSALS as error:
            raise NotToldError(f"who may use {resource} is shown to who manages it: {error.message}") from error
        person = self._asked.person(holder)
        whom = {f"groups/{group}" for group in person.names} | {f"users/{holder}", f"servicePrincipals/{holder}"}
        if any(rule.get("role") == role and whom & set(rule.get("principals") or ()) for rule in rules):
            return passed(f"{holder} has {role} on {resource}")
        if not person.complete:
            raise NotToldError(f"the groups of {holder} can not be read")
        return None


def _reaches(row: Mapping[str, Any], names: frozenset[str]) -> bool:
    return any(row.get(key) in names for key in ("user_name", "service_principal_name", "group_name"))


def _levels(row: Mapping[str, Any]) -> set[str]:
    return {str(each.get("permission_level")) for each in row.get("all_permissions") or ()}

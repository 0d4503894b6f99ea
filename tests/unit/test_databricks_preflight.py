"""What a preflight makes of what Databricks answers: held, missing with what grants it, or not to be found out."""

from collections.abc import Mapping
from typing import Any
from unittest.mock import MagicMock

import pytest

from tests.unit.databricks_serving_needs import SERVING
from trainyard.core.errors import Denied, Missing, Refused, Throttled, Unreachable
from trainyard.platforms.base import Need
from trainyard.platforms.databricks import needs, preflight
from trainyard.platforms.databricks.preflight import findings

ME = "app-me"
OTHER = "app-other"
UC = "/api/2.1/unity-catalog"
EFFECTIVE = f"{UC}/effective-permissions"
SCIM = "/api/2.0/preview/scim/v2"
RULES = "/api/2.0/preview/accounts/access-control/rule-sets"


class Client:
    """Answers by path; what it has no answer for is Missing. An exception is raised. Counts what it is asked."""

    def __init__(self, answers: Mapping[str, Any]) -> None:
        self.answers = {f"{SCIM}/Me": me(), "/.well-known/databricks-config": {"account_id": "acc"}, **answers}
        self.asked: list[tuple[str, str]] = []

    def do(self, method: str, path: str, *, query: Any = None, body: Any = None) -> Any:
        assert method == "GET", "a preflight only looks"
        self.asked.append((path, repr(query)))
        answer = self.answers.get(path, Missing(f"{path} does not exist"))
        if callable(answer):
            answer = answer(query)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def head(self, path: str, *names: str) -> dict[str, str]:
        answer = self.answers.get(f"HEAD {path}", Missing("not there"))
        if isinstance(answer, Exception):
            raise answer
        return {}


def me(*groups: str, entitlements: tuple[str, ...] = ()) -> dict[str, Any]:
    return {
        "userName": ME,
        "groups": [{"display": group} for group in groups],
        "entitlements": [{"value": each} for each in entitlements],
    }


def other(*groups: str) -> dict[str, Any]:
    return {"Resources": [{"applicationId": OTHER, "groups": [{"display": group} for group in groups]}]}


def held(*grants: tuple[str, str]) -> dict[str, Any]:
    return {"privilege_assignments": [{"principal": who, "privileges": [{"privilege": what}]} for who, what in grants]}


def levels(**by_name: str) -> dict[str, Any]:
    rows = [
        {("group_name" if name in ("data", "users") else "service_principal_name"): NAMES.get(name, name)}
        | {"all_permissions": [{"permission_level": level, "inherited": False}]}
        for name, level in by_name.items()
    ]
    return {"access_control_list": rows}


NAMES = {"me": ME, "other": OTHER}
NO = Denied("you may not")


def need(kind: str, name: str, right: str, holder: str = ME) -> Need:
    return Need(kind, name, right, holder, "spec.x")


CATALOG = need(needs.CATALOG, "main", needs.USE_CATALOG)
SCHEMA = need(needs.SCHEMA, "main.ml", needs.USE_SCHEMA)
SCHEMA_OTHER = need(needs.SCHEMA, "main.ml", needs.USE_SCHEMA, OTHER)
ON_SCHEMA = f"{EFFECTIVE}/SCHEMA/main.ml"
MODEL = need(needs.MODEL, "main.ml.iris", needs.REGISTER)
ON_MODEL = f"{EFFECTIVE}/FUNCTION/main.ml.iris"
TAGS = need(needs.MODEL, "main.ml.iris", needs.SET_TAGS)
ALIAS = need(needs.MODEL, "main.ml.iris", needs.SET_ALIAS)
WRITTEN = need(needs.TABLE, "main.ml.t", needs.WRITE)
ON_TABLE = f"{EFFECTIVE}/TABLE/main.ml.t"
VOLUME = need(needs.VOLUME, "main.ml.raw", needs.WRITE_VOLUME)
LOCATION = need(needs.EXTERNAL_LOCATION, "s3://bucket/sales/2026", needs.READ_FILES)
LOCATIONS = {
    "external_locations": [{"name": "all", "url": "s3://bucket"}, {"name": "sales", "url": "s3://bucket/sales"}]
}

# (what is needed, what the platform answers, outcome, words of the message)
UNITY: list[tuple[Need, dict[str, Any], str, str]] = [
    (CATALOG, {f"{EFFECTIVE}/CATALOG/main": held((ME, "USE_CATALOG"))}, "Passed", ""),
    (CATALOG, {}, "Missing", "catalog main does not exist"),
    (SCHEMA, {ON_SCHEMA: held((ME, "USE_SCHEMA"))}, "Passed", ""),
    (SCHEMA, {ON_SCHEMA: held((ME, "ALL_PRIVILEGES"))}, "Passed", ""),
    (SCHEMA, {ON_SCHEMA: held(("account users", "USE_SCHEMA"))}, "Passed", ""),
    (SCHEMA, {ON_SCHEMA: held(("data", "USE_SCHEMA")), f"{SCIM}/Me": me("data")}, "Passed", ""),
    (SCHEMA, {ON_SCHEMA: {}, f"{UC}/schemas/main.ml": {"owner": ME}}, "Passed", ""),
    (
        SCHEMA,
        {ON_SCHEMA: held(("data", "USE_SCHEMA"))},
        "Missing",
        f"GRANT USE SCHEMA ON SCHEMA `main`.`ml` TO `{ME}`",
    ),
    (SCHEMA, {ON_SCHEMA: held((ME, "SELECT")), f"{UC}/schemas/main.ml": NO}, "Missing", "lacks USE SCHEMA"),
    (SCHEMA, {ON_SCHEMA: NO}, "Unknown", "GRANT USE SCHEMA ON SCHEMA"),
    (SCHEMA, {ON_SCHEMA: lambda query: held((ME, "USE_SCHEMA")) if "principal" in query else NO}, "Passed", ""),
    (SCHEMA, {ON_SCHEMA: lambda query: Missing("no such principal") if "principal" in query else NO}, "Unknown", ""),
    (SCHEMA_OTHER, {ON_SCHEMA: held((OTHER, "USE_SCHEMA"))}, "Passed", ""),
    # Only its own grants are shown to who does not manage the schema: nothing can be said of another.
    (SCHEMA_OTHER, {ON_SCHEMA: held((ME, "USE_SCHEMA"))}, "Unknown", f"TO `{OTHER}`"),
    (
        SCHEMA_OTHER,
        {ON_SCHEMA: held((ME, "MANAGE")), f"{SCIM}/ServicePrincipals": other()},
        "Missing",
        f"TO `{OTHER}`",
    ),
    (SCHEMA_OTHER, {ON_SCHEMA: held((ME, "MANAGE")), f"{SCIM}/ServicePrincipals": NO}, "Unknown", ""),
    (
        SCHEMA_OTHER,
        {ON_SCHEMA: held(("data", "USE_SCHEMA")), f"{SCIM}/ServicePrincipals": other("data")},
        "Passed",
        "",
    ),
    (MODEL, {ON_SCHEMA: held((ME, "CREATE_MODEL"))}, "Passed", ""),
    (MODEL, {ON_SCHEMA: held((ME, "USE_SCHEMA"))}, "Missing", "GRANT CREATE MODEL ON SCHEMA `main`.`ml`"),
    (MODEL, {}, "Missing", "schema main.ml does not exist"),
    (MODEL, {ON_MODEL: {}, f"{UC}/models/main.ml.iris": {"owner": ME}}, "Passed", ""),
    (
        MODEL,
        {ON_MODEL: {}, ON_SCHEMA: held((ME, "CREATE_MODEL"))},
        "Missing",
        "GRANT CREATE MODEL VERSION ON FUNCTION `main`.`ml`.`iris`",
    ),
    (MODEL, {ON_MODEL: held((ME, "CREATE_MODEL_VERSION"))}, "Passed", ""),
    (TAGS, {ON_MODEL: held((ME, "APPLY_TAG"))}, "Passed", ""),
    (TAGS, {ON_MODEL: held((ME, "MANAGE"))}, "Passed", ""),
    (TAGS, {ON_MODEL: held((ME, "EXECUTE"))}, "Missing", "GRANT APPLY TAG ON FUNCTION"),
    (ALIAS, {ON_MODEL: held((ME, "ALL_PRIVILEGES"))}, "Missing", "GRANT MANAGE ON FUNCTION"),
    (ALIAS, {}, "Passed", "whoever registers it owns it"),
    (WRITTEN, {ON_TABLE: held((ME, "MODIFY"))}, "Passed", ""),
    (WRITTEN, {ON_TABLE: held((ME, "SELECT"))}, "Missing", "GRANT MODIFY ON TABLE"),
    (WRITTEN, {ON_SCHEMA: held((ME, "CREATE_TABLE"))}, "Passed", ""),
    (WRITTEN, {ON_SCHEMA: {}}, "Missing", "GRANT CREATE TABLE ON SCHEMA"),
    (VOLUME, {f"{EFFECTIVE}/VOLUME/main.ml.raw": held((ME, "READ_VOLUME"))}, "Missing", "GRANT WRITE VOLUME ON VOLUME"),
    (
        LOCATION,
        {
            f"{UC}/external-locations": LOCATIONS,
            f"{EFFECTIVE}/EXTERNAL_LOCATION/sales": held((ME, "READ_FILES")),
        },
        "Passed",
        "",
    ),
    (
        LOCATION,
        {f"{UC}/external-locations": LOCATIONS, f"{EFFECTIVE}/EXTERNAL_LOCATION/sales": {}},
        "Missing",
        "GRANT READ FILES ON EXTERNAL LOCATION `sales`",
    ),
    (LOCATION, {f"{UC}/external-locations": {}}, "Unknown", "s3://bucket/sales/2026"),
]

CLUSTER = need(needs.CLUSTER, "c1", needs.CAN_ATTACH_TO)
GET_CLUSTER, LEVELS = "/api/2.1/clusters/get", "/api/2.0/permissions"
CLUSTER_OTHER = need(needs.CLUSTER, "c1", needs.CAN_ATTACH_TO, OTHER)
POOL = need(needs.POOL, "p1", needs.CAN_ATTACH_TO)
POLICY = need(needs.POLICY, "y1", needs.CAN_USE)
JOB = need(needs.JOB, "7", needs.CAN_MANAGE_RUN)
JOB_NAME = need(needs.JOB_NAME, "nightly", needs.CAN_MANAGE_RUN)
GET_JOB, LIST_JOBS = "/api/2.2/jobs/get", "/api/2.2/jobs/list"
PATH = need(needs.WORKSPACE_PATH, "/Workspace/Shared/churn", needs.CAN_READ)
PATH_OTHER = need(needs.WORKSPACE_PATH, "/Workspace/Shared/churn", needs.CAN_READ, OTHER)
STATUS, FOLDER = "/api/2.0/workspace/get-status", {"object_type": "DIRECTORY", "object_id": 5}
SECRET = need(needs.SECRET, "team/key", needs.READ)
SECRET_OTHER = need(needs.SECRET, "team/key", needs.READ, OTHER)
SECRETS, ACLS = "/api/2.0/secrets/list", "/api/2.0/secrets/acls/list"
KEYS = {"secrets": [{"key": "key"}]}
CREATE = need(needs.WORKSPACE, needs.THIS, needs.ALLOW_CLUSTER_CREATE)
AS_PRINCIPAL = need(needs.SERVICE_PRINCIPAL, OTHER, needs.PRINCIPAL_USER)
BUDGET = need(needs.BUDGET_POLICY, "b1", needs.BUDGET_POLICY_USER)
NODE = need(needs.NODE_TYPE, "i3.xlarge", needs.EXISTS)
FILE = need(needs.VOLUME_PATH, "/Volumes/main/ml/raw/x", needs.EXISTS)


def rules(role: str, *principals: str) -> dict[str, Any]:
    return {"grant_rules": [{"role": role, "principals": list(principals)}]}


def jobs(*ids: int) -> dict[str, Any]:
    return {"jobs": [{"job_id": each, "settings": {"name": "nightly"}} for each in ids]}


OBJECTS: list[tuple[Need, dict[str, Any], str, str]] = [
    (CLUSTER, {GET_CLUSTER: {"state": "RUNNING"}}, "Passed", ""),
    (
        CLUSTER,
        {GET_CLUSTER: {"state": "TERMINATED"}, f"{LEVELS}/clusters/c1": levels(me="CAN_ATTACH_TO")},
        "Missing",
        "databricks permissions update clusters c1",
    ),
    (
        CLUSTER,
        {GET_CLUSTER: {"state": "TERMINATED"}, f"{LEVELS}/clusters/c1": levels(me="CAN_RESTART")},
        "Passed",
        "",
    ),
    (CLUSTER, {GET_CLUSTER: {"state": "TERMINATED"}, f"{LEVELS}/clusters/c1": NO}, "Unknown", "CAN_RESTART"),
    (CLUSTER, {GET_CLUSTER: {"state": "ERROR", "state_message": "no disk"}}, "Missing", "no disk"),
    (CLUSTER, {GET_CLUSTER: Refused("Cluster c1 does not exist")}, "Missing", "does not exist"),
    (CLUSTER, {GET_CLUSTER: NO}, "Missing", "CAN_ATTACH_TO"),
    (CLUSTER_OTHER, {GET_CLUSTER: NO}, "Unknown", ""),
    (
        CLUSTER_OTHER,
        {
            GET_CLUSTER: {"state": "RUNNING"},
            f"{LEVELS}/clusters/c1": levels(data="CAN_MANAGE"),
            f"{SCIM}/ServicePrincipals": other("data"),
        },
        "Passed",
        "",
    ),
    (
        CLUSTER_OTHER,
        {
            GET_CLUSTER: {"state": "RUNNING"},
            f"{LEVELS}/clusters/c1": levels(me="CAN_MANAGE"),
            f"{SCIM}/ServicePrincipals": other(),
        },
        "Missing",
        f'"service_principal_name": "{OTHER}", "permission_level": "CAN_ATTACH_TO"',
    ),
    (
        CLUSTER_OTHER,
        {
            GET_CLUSTER: {"state": "RUNNING"},
            f"{LEVELS}/clusters/c1": levels(me="CAN_MANAGE"),
            f"{SCIM}/ServicePrincipals": {"Resources": [{"applicationId": OTHER}]},
        },
        "Unknown",
        "",
    ),
    (POOL, {"/api/2.0/instance-pools/get": {"state": "ACTIVE"}}, "Passed", ""),
    (POOL, {}, "Missing", "instance-pool p1"),
    (POLICY, {"/api/2.0/policies/clusters/get": {"policy_id": "y1"}}, "Passed", ""),
    (JOB, {GET_JOB: {"job_id": 7}, f"{LEVELS}/jobs/7": levels(me="IS_OWNER")}, "Passed", ""),
    (JOB, {GET_JOB: {"job_id": 7}, f"{LEVELS}/jobs/7": levels(users="CAN_VIEW")}, "Missing", "CAN_MANAGE_RUN"),
    (JOB, {GET_JOB: {"job_id": 7}, f"{LEVELS}/jobs/7": NO}, "Unknown", "CAN_MANAGE_RUN"),
    (JOB, {GET_JOB: {"job_id": 7}, f"{SCIM}/Me": me("admins")}, "Passed", ""),
    (JOB_NAME, {LIST_JOBS: jobs(7), GET_JOB: {}, f"{LEVELS}/jobs/7": levels(me="CAN_MANAGE")}, "Passed", ""),
    (JOB_NAME, {LIST_JOBS: {}}, "Missing", "no job 'nightly'"),
    (JOB_NAME, {LIST_JOBS: jobs(7, 8)}, "Missing", "2 jobs are named"),
    (PATH, {STATUS: FOLDER}, "Passed", ""),
    (PATH, {}, "Missing", "/Workspace/Shared/churn is not there"),
    (PATH_OTHER, {STATUS: FOLDER, f"{LEVELS}/directories/5": levels(other="CAN_READ")}, "Passed", ""),
    (PATH_OTHER, {STATUS: FOLDER, f"{LEVELS}/directories/5": NO}, "Unknown", "permissions update directories 5"),
    (PATH_OTHER, {STATUS: NO}, "Unknown", ""),
    (SECRET, {SECRETS: KEYS}, "Passed", ""),
    (SECRET, {SECRETS: {}}, "Missing", "databricks secrets put-secret team key"),
    (SECRET, {SECRETS: NO}, "Missing", f"databricks secrets put-acl team {ME} READ"),
    (SECRET, {}, "Missing", "databricks secrets create-scope team"),
    (SECRET_OTHER, {SECRETS: KEYS, ACLS: {"items": [{"principal": OTHER, "permission": "READ"}]}}, "Passed", ""),
    (SECRET_OTHER, {SECRETS: KEYS, ACLS: {}, f"{SCIM}/ServicePrincipals": other()}, "Missing", f"team {OTHER} READ"),
    (SECRET_OTHER, {SECRETS: KEYS, ACLS: NO}, "Unknown", f"team {OTHER} READ"),
    (SECRET_OTHER, {SECRETS: NO}, "Unknown", ""),
    (CREATE, {f"{SCIM}/Me": me(entitlements=("allow-cluster-create",))}, "Passed", ""),
    (CREATE, {f"{SCIM}/Me": me("admins")}, "Passed", ""),
    (
        CREATE,
        {f"{SCIM}/Groups": {"Resources": [{"entitlements": [{"value": "allow-cluster-create"}]}]}},
        "Passed",
        "",
    ),
    (CREATE, {f"{SCIM}/Groups": {}}, "Missing", "Unrestricted cluster creation"),
    (CREATE, {f"{SCIM}/Groups": NO}, "Unknown", ""),
    # An administrator alone is shown more than a group's name.
    (CREATE, {f"{SCIM}/Groups": {"Resources": [{"displayName": "data"}]}}, "Unknown", "Unrestricted cluster creation"),
    (AS_PRINCIPAL, {RULES: rules("roles/servicePrincipal.user", f"servicePrincipals/{ME}")}, "Passed", ""),
    (AS_PRINCIPAL, {RULES: rules("roles/servicePrincipal.manager", f"servicePrincipals/{ME}")}, "Missing", OTHER),
    (
        AS_PRINCIPAL,
        {RULES: rules("roles/servicePrincipal.user", "groups/data"), f"{SCIM}/Me": me("data")},
        "Passed",
        "",
    ),
    (AS_PRINCIPAL, {RULES: NO}, "Unknown", ""),
    (AS_PRINCIPAL, {RULES: Unreachable("no such API", reason="EndpointNotFound")}, "Unknown", "no such API"),
    (AS_PRINCIPAL, {"/.well-known/databricks-config": {}}, "Unknown", "which account"),
    (BUDGET, {RULES: rules("roles/budgetPolicy.user", "groups/account users")}, "Passed", ""),
    (BUDGET, {RULES: {}}, "Missing", "budget policy b1"),
    (need(needs.USER, "ada@example.com", needs.WORKSPACE_ADMIN), {}, "Missing", "workspace admin"),
    (need(needs.USER, ME, needs.WORKSPACE_ADMIN), {}, "Passed", ""),
    (NODE, {"/api/2.1/clusters/list-node-types": {"node_types": [{"node_type_id": "i3.xlarge"}]}}, "Passed", ""),
    (
        NODE,
        {"/api/2.1/clusters/list-node-types": {"node_types": [{"node_type_id": "i3.large"}]}},
        "Missing",
        "i3.large",
    ),
    (NODE, {}, "Unknown", "can not be found out"),
    (FILE, {"HEAD /api/2.0/fs/files/Volumes/main/ml/raw/x": {}}, "Passed", ""),
    (FILE, {"HEAD /api/2.0/fs/directories/Volumes/main/ml/raw/x": {}}, "Passed", ""),
    (FILE, {}, "Missing", "is not there"),
    (FILE, {"HEAD /api/2.0/fs/directories/Volumes/main/ml/raw/x": NO}, "Unknown", ""),
    (need("planet", "earth", "ORBIT"), {}, "Unknown", "does not know"),
]


@pytest.mark.parametrize(("wanted", "answers", "outcome", "words"), UNITY + OBJECTS + SERVING)
def test_a_need_is_held_missing_or_not_to_be_found_out(
    wanted: Need, answers: dict[str, Any], outcome: str, words: str
) -> None:
    (found,) = findings(Client(answers), ME, [wanted])  # type: ignore[arg-type]  # the methods that are used
    assert (found.outcome, found.field) == (outcome, "spec.x"), found.message
    assert words in found.message
    assert wanted.name in found.name


def test_every_kind_of_need_is_looked_at() -> None:
    words = {value for name, value in vars(needs).items() if name.isupper() and isinstance(value, str)}
    checks = preflight._checks(MagicMock(), MagicMock(), MagicMock())
    known = {key if isinstance(key, str) else key[0] for key in checks}
    assert known <= words
    # Whatever this table has no row for is looked at as another kind is.
    assert known == {each.kind for each, *_ in UNITY + OBJECTS + SERVING} - {"planet"} | {needs.SPARK_VERSION}


def test_one_securable_is_asked_about_once_and_two_holders_are_told_apart() -> None:
    client = Client({ON_SCHEMA: held((ME, "USE_SCHEMA")), f"{SCIM}/ServicePrincipals": NO})
    found = findings(client, ME, [SCHEMA, SCHEMA_OTHER, SCHEMA, MODEL])  # type: ignore[arg-type]
    assert [each.outcome for each in found] == ["Passed", "Unknown", "Passed", "Missing"]
    assert len({each.name for each in found[:2]}) == 2
    assert len(client.asked) == len(set(client.asked))


def test_a_new_model_registered_by_another_has_to_be_managed_by_who_names_it() -> None:
    registers = need(needs.MODEL, "main.ml.iris", needs.REGISTER, OTHER)
    answers = {ON_SCHEMA: held((OTHER, "CREATE_MODEL"), (ME, "USE_SCHEMA"))}
    found = findings(Client(answers), ME, [registers, TAGS, ALIAS])  # type: ignore[arg-type]
    assert [each.outcome for each in found] == ["Passed", "Missing", "Missing"]
    assert "GRANT MANAGE ON SCHEMA `main`.`ml`" in found[2].message


@pytest.mark.parametrize("error", [Unreachable("down"), Throttled("slow down", retry_after=1)])
def test_a_platform_that_does_not_answer_is_no_finding(error: Exception) -> None:
    with pytest.raises(type(error)):
        findings(Client({ON_SCHEMA: error}), ME, [SCHEMA])  # type: ignore[arg-type]


def test_what_takes_too_long_or_too_many_requests_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    many = [need(needs.SCHEMA, f"main.s{n}", needs.USE_SCHEMA) for n in range(200)]
    client = Client({f"{EFFECTIVE}/SCHEMA/main.s{n}": held((ME, "USE_SCHEMA")) for n in range(200)})
    found = findings(client, ME, many)  # type: ignore[arg-type]
    assert len(client.asked) <= 150
    assert {each.outcome for each in found} == {"Passed", "Unknown"}
    monkeypatch.setattr(preflight, "PATIENCE", -1.0)
    (late,) = findings(Client({}), ME, [SCHEMA])  # type: ignore[arg-type]
    assert late.outcome == "Unknown"

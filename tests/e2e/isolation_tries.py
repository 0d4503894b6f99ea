"""What a team tries, one function each: the rows of test_isolation.py.

Each lays down what the attempt takes, and returns how a run names the workspace.
"""

from collections.abc import Callable

from tests.e2e.isolation import HOLDS, Object, Pair

# What both namespaces may call a Secret of theirs, and the operator may read.
KEPT = "kept"
# A provider that the operator was started with, and one that it was not.
PROVIDER, ELSEWHERE = "https://idp.example.com", "https://idp.example.org"
MANAGED, WORKLOAD = "managedIdentity", "azureWorkloadIdentity"
Tried = Callable[[Pair], Object]

# --- whose workspace, and whose ServiceAccount


def own_account(pair: Pair) -> Object:
    return pair.workspace(pair.federated("trainer"))


def others_workspace(pair: Pair) -> Object:
    return {"name": pair.theirs.workspace}


def others_workspace_by_path(pair: Pair) -> Object:
    reference = {"name": f"{pair.theirs.namespace}/{pair.theirs.workspace}"}
    pair.run(reference)
    return reference


def shared_with_us(pair: Pair) -> Object:
    return pair.shared(pair.federated("trainer"), pair.ours.namespace)


def shared_with_them(pair: Pair) -> Object:
    return pair.shared(pair.federated("trainer"), pair.theirs.namespace)


def account(name: str) -> Tried:
    """A workspace that names a ServiceAccount so; <theirs> and <account> are what theirs are called."""

    def tried(pair: Pair) -> Object:
        said = name.replace("<theirs>", pair.theirs.namespace).replace("<account>", pair.theirs.service_account)
        return pair.workspace(pair.federated(said))

    return tried


def shared_by_others_account(pair: Pair) -> Object:
    return pair.shared(pair.federated(pair.theirs.service_account), pair.ours.namespace)


def system_account(pair: Pair) -> Object:
    """A ServiceAccount that kube-system has and we have not."""
    there = pair.scene.cluster.call("GET", "/api/v1/namespaces/kube-system/serviceaccounts")["items"]
    return pair.workspace(pair.federated(min({each["metadata"]["name"] for each in there} - {"default"})))


def not_opted_in(pair: Pair) -> Object:
    metadata = {"name": "silent", "namespace": pair.ours.namespace}
    pair.scene.apply({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata})
    return pair.workspace(pair.federated("silent"))


def hostile_host(pair: Pair) -> Object:
    """Somewhere that the operator was not started with: on Azure a cloud, since no host can be named."""
    if pair.scene.platform.name == "databricks":
        where: Object = {"databricks": {"host": "https://adb-1.azuredatabricks.net.example.com"}}
    else:
        spec = pair.scene.platform.workspace(pair.ours.namespace)["spec"]
        where = {"azureML": {**spec["azureML"], "cloud": "Contoso"}}
    return pair.workspace(pair.federated("trainer"), **where)


# --- whose Secret


def keep(pair: Pair, kind: str | None) -> None:
    """Our Secret, which the operator may read, opted in as that kind."""
    pair.secret(pair.ours, KEPT, kind, pair.credential(pair.ours))
    pair.scene.stand.allow_secret(pair.ours.namespace, KEPT)


def own_secret(pair: Pair) -> Object:
    keep(pair, HOLDS[pair.scene.platform.name])
    return pair.workspace(pair.secret_ref(KEPT))


def own_secret_in_shared(pair: Pair) -> Object:
    keep(pair, HOLDS[pair.scene.platform.name])
    return pair.shared(pair.secret_ref(KEPT), pair.ours.namespace)


def others_secret(pair: Pair) -> Object:
    """They have a Secret of that name, and we have not."""
    pair.scene.stand.allow_secret(pair.ours.namespace, KEPT)
    return pair.workspace(pair.secret_ref(KEPT))


def others_secret_in_shared(pair: Pair) -> Object:
    pair.scene.stand.allow_secret(pair.ours.namespace, KEPT)
    return pair.shared(pair.secret_ref(KEPT), pair.ours.namespace)


def others_secret_unallowed(pair: Pair) -> Object:
    """The operator may read theirs, and none of ours."""
    return pair.workspace(pair.secret_ref(KEPT))


def others_secret_by_path(pair: Pair) -> Object:
    return pair.workspace(pair.secret_ref(f"{pair.theirs.namespace}/{KEPT}"))


def silent_secret(pair: Pair) -> Object:
    keep(pair, None)
    return pair.workspace(pair.secret_ref(KEPT))


def secret_for_something_else(pair: Pair) -> Object:
    keep(pair, "oidc")
    return pair.workspace(pair.secret_ref(KEPT))


def someones_token(pair: Pair) -> Object:
    """A personal access token that nobody has said yes to."""
    return pair.workspace(pair.secret_ref(KEPT, type="PersonalAccessToken"))


# --- whose provider


def hostile_issuer(pair: Pair) -> Object:
    keep(pair, "oidc")
    return pair.workspace(pair.oidc(KEPT, ELSEWHERE))


def hostile_issuer_in_shared(pair: Pair) -> Object:
    keep(pair, "oidc")
    return pair.shared(pair.oidc(KEPT, ELSEWHERE), pair.ours.namespace)


def others_client(pair: Pair) -> Object:
    pair.scene.stand.allow_secret(pair.ours.namespace, KEPT)
    return pair.workspace(pair.oidc(KEPT, PROVIDER))


def silent_client(pair: Pair) -> Object:
    keep(pair, HOLDS[pair.scene.platform.name])
    return pair.workspace(pair.oidc(KEPT, PROVIDER))


# --- the operator's own identities


def operators_own(mode: str) -> Tried:
    """In a workspace of our own, where nobody may lend it."""
    return lambda pair: pair.workspace(pair.operators_own(mode, pair.lent))


def lent_to_us(mode: str) -> Tried:
    """In a ClusterMLWorkspace."""
    return lambda pair: pair.shared(pair.operators_own(mode, pair.lent), pair.ours.namespace)


def lent_to_them(mode: str) -> Tried:
    """The same, for others."""
    return lambda pair: pair.shared(pair.operators_own(mode, pair.lent), pair.theirs.namespace)

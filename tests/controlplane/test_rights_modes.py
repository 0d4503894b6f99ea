"""Every right of every identity mode is needed, said in the refusal where it lacks, and nothing beyond is held.

What a mode asks of the API server is asked by the operator's own requests, as a ServiceAccount that is bound to exactly
the chart's rules (charts/trainyard/files/rbac), on a real API server. Take a verb away from the files, and the test of
its name fails.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.controlplane.rights import MARKER, Holder, Rule, rules_of, without
from trainyard.api.identity import AZURE_WORKLOAD_IDENTITY, FEDERATED, MANAGED_IDENTITY, MODES, OIDC, SECRET_REF
from trainyard.controllers.kube import Kube
from trainyard.core.errors import IdentityError
from trainyard.identity.base import SecretRef, ServiceAccountRef
from trainyard_localcluster import LocalCluster

ACCOUNT, SECRET = "trainer", "kept"
OPERATIONS: dict[tuple[str, str], Callable[[Kube, str], object]] = {
    ("get", "serviceaccounts"): lambda kube, where: kube.annotations(ServiceAccountRef(where, ACCOUNT)),
    ("create", "serviceaccounts/token"): lambda kube, where: kube.request_token(
        ServiceAccountRef(where, ACCOUNT), "trainyard-databricks", 600
    ),
    ("get", "secrets"): lambda kube, where: kube.secret_data(SecretRef(where, SECRET)),
}
# What each mode needs. Said here anew, so that a verb that is gone from the files is missed.
NEEDS: dict[str, tuple[tuple[str, str], ...]] = {
    FEDERATED: (("get", "serviceaccounts"), ("create", "serviceaccounts/token")),
    AZURE_WORKLOAD_IDENTITY: (),
    MANAGED_IDENTITY: (),
    OIDC: (("get", "secrets"),),
    SECRET_REF: (("get", "secrets"),),
}
EACH = [pytest.param(mode, *need, id=f"{mode}-{need[0]}-{need[1]}") for mode in MODES for need in NEEDS[mode]]


@pytest.fixture
def holder(api: LocalCluster, namespace: str, tmp_path: Path) -> Holder:
    """A ServiceAccount without rights, beside the ServiceAccount and the Secrets that the modes use."""
    there = f"/api/v1/namespaces/{namespace}"
    api.call("POST", f"{there}/serviceaccounts", {"metadata": {"name": ACCOUNT}})
    for name in (SECRET, "other"):
        api.call("POST", f"{there}/secrets", {"metadata": {"name": name}, "data": {"client-secret": "a2VwdA=="}})
    return Holder(api, namespace, "operator", tmp_path)


def bound(mode: str) -> list[Rule]:
    """The mode's rules as the chart binds them: each to one name."""
    names = {"serviceaccounts": ACCOUNT, "serviceaccounts/token": ACCOUNT, "secrets": SECRET}
    return [rule | {"resourceNames": [names[rule["resources"][0]]]} for rule in rules_of(f"modes/{mode}")]


@pytest.mark.parametrize(("mode", "verb", "resource"), EACH)
def test_with_its_rights_a_mode_gets_what_it_needs(holder: Holder, mode: str, verb: str, resource: str) -> None:
    kube = holder.hold(bound(mode))
    assert OPERATIONS[verb, resource](kube, holder.namespace) is not None


@pytest.mark.parametrize(("mode", "verb", "resource"), EACH)
def test_without_one_of_them_it_is_refused_and_told_which(holder: Holder, mode: str, verb: str, resource: str) -> None:
    kube = holder.hold(without(bound(mode), verb, resource))
    with pytest.raises(IdentityError) as refused:
        OPERATIONS[verb, resource](kube, holder.namespace)
    assert refused.value.reason == "OperatorForbidden"
    assert verb in refused.value.message
    assert resource in refused.value.message
    assert holder.namespace in refused.value.message
    assert f"identity.{'secrets' if resource == 'secrets' else 'serviceAccounts'}" in refused.value.message
    for other in NEEDS[mode]:
        if other != (verb, resource):
            assert OPERATIONS[other](kube, holder.namespace) is not None


@pytest.mark.parametrize("mode", MODES)
def test_a_mode_holds_nothing_beyond_what_it_needs(holder: Holder, mode: str) -> None:
    """Least of all the right to list or watch Secrets, or to read another one."""
    anybody = holder.rights()
    holder.hold(bound(mode))
    names = {"serviceaccounts": ACCOUNT, "serviceaccounts/token": ACCOUNT, "secrets": SECRET}
    needed = {(verb, resource, names[resource]) for verb, resource in NEEDS[mode]}
    assert holder.rights() - anybody - {("get", *MARKER["resources"], "")} == needed
    for verb in ("list", "watch", "create", "update", "patch", "delete"):
        assert not holder.may(verb, "", "secrets")


@pytest.mark.parametrize("mode", MODES)
def test_no_right_of_a_mode_serves_another_name_or_namespace(
    api: LocalCluster, holder: Holder, mode: str, tmp_path: Path
) -> None:
    kube = holder.hold(bound(mode))
    made: dict[str, Any] = api.call("POST", "/api/v1/namespaces", {"metadata": {"generateName": "test-"}})
    elsewhere = made["metadata"]["name"]
    refusals = 0
    for ask in OPERATIONS.values():
        with pytest.raises(IdentityError) as refused:
            ask(kube, elsewhere)
        refusals += refused.value.reason == "OperatorForbidden"
    for of_another in (
        lambda: kube.secret_data(SecretRef(holder.namespace, "other")),
        lambda: kube.annotations(ServiceAccountRef(holder.namespace, "default")),
        lambda: kube.request_token(ServiceAccountRef(holder.namespace, "default"), "trainyard-databricks", 600),
    ):
        with pytest.raises(IdentityError) as refused:
            of_another()
        refusals += refused.value.reason == "OperatorForbidden"
    api.call("DELETE", f"/api/v1/namespaces/{elsewhere}")
    assert refusals == 2 * len(OPERATIONS)

"""The Databricks account's host: signing in, and federation policies, with the unmodified AccountClient."""

from __future__ import annotations

import json
from collections.abc import Callable

import jwt
import pytest
from databricks.sdk import AccountClient, WorkspaceClient
from databricks.sdk.errors import InvalidParameterValue, NotFound, PermissionDenied, Unauthenticated
from databricks.sdk.service.oauth2 import FederationPolicy, OidcFederationPolicy

from trainyard_sandbox.client import ControlError, SandboxControl

from .issuer import TestIssuer
from .test_identity import exchange

SUBJECT = "system:serviceaccount:team-a:trainer"
AUDIENCE = "databricks"


@pytest.fixture(autouse=True)
def trusting(control: SandboxControl, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(control.address.ca_file))


@pytest.fixture
def signed_in(control: SandboxControl) -> Callable[[str], AccountClient]:
    """An AccountClient with an OAuth secret of the service principal: `signed_in(application_id)`."""

    def build(application_id: str) -> AccountClient:
        return AccountClient(
            host=control.address.account_host,
            account_id=control.address.account_id,
            client_id=application_id,
            client_secret=control.add_oauth_secret(application_id).value,
        )

    return build


@pytest.fixture
def admin(control: SandboxControl, signed_in: Callable[[str], AccountClient]) -> AccountClient:
    """The AccountClient of an account admin."""
    application_id = control.add_principal("account admin")
    control.account_admin(application_id)
    return signed_in(application_id)


def scim_id(control: SandboxControl, application_id: str) -> int:
    """The numeric id of a service principal, which the account's API wants."""
    listed = control.call("GET", "/principals")
    return int(next(one["scim_id"] for one in listed if one["application_id"] == application_id))


def policy(issuer: str, **fields: object) -> FederationPolicy:
    return FederationPolicy(oidc_policy=OidcFederationPolicy.from_dict({"issuer": issuer} | fields))


def test_an_admin_makes_a_policy_that_then_signs_the_workload_in(
    control: SandboxControl, admin: AccountClient, issuer: TestIssuer
) -> None:
    trainer = control.add_principal("trainer")
    assertion = issuer.assertion(SUBJECT, AUDIENCE)
    assert exchange(control, assertion, client_id=trainer).status_code == 400
    policies, number = admin.service_principal_federation_policy, scim_id(control, trainer)
    made = policies.create(number, policy(issuer.url, subject=SUBJECT, audiences=[AUDIENCE]), policy_id="team-a")
    assert exchange(control, assertion, client_id=trainer).status_code == 200
    assert made.name == f"accounts/{control.address.account_id}/servicePrincipals/{number}/federationPolicies/team-a"
    assert policies.get(number, "team-a") == made
    assert list(policies.list(number)) == [made]
    policies.delete(number, "team-a")
    assert list(policies.list(number)) == []
    assert exchange(control, assertion, client_id=trainer).status_code == 400


def test_the_list_counts_what_the_control_api_made_page_by_page(
    control: SandboxControl, admin: AccountClient, issuer: TestIssuer
) -> None:
    trainer = control.add_principal("trainer")
    for number in range(20):
        control.add_policy(trainer, issuer.url, f"subject-{number}")
    with pytest.raises(ControlError, match="At most 20"):
        control.add_policy(trainer, issuer.url, "subject-20")
    policies = admin.service_principal_federation_policy
    listed = list(policies.list(scim_id(control, trainer), page_size=7))
    assert [one.oidc_policy.subject for one in listed if one.oidc_policy] == [f"subject-{n}" for n in range(20)]
    assert listed[0].oidc_policy == OidcFederationPolicy(
        audiences=[control.address.account_id], issuer=issuer.url, subject="subject-0", subject_claim="sub"
    )
    with pytest.raises(InvalidParameterValue, match="At most 20"):
        policies.create(scim_id(control, trainer), policy(issuer.url, subject="subject-20"))


def test_an_account_wide_policy_signs_in_principals_and_users_by_their_claim(
    control: SandboxControl, admin: AccountClient, issuer: TestIssuer
) -> None:
    trainer = control.add_principal("trainer")
    control.change_user("ann@example.com", entitlements=["workspace-access"])
    made = admin.federation_policy.create(policy(issuer.url, audiences=["wide"], subject_claim="who"))
    assert made.service_principal_id is None
    for name in (trainer, "ann@example.com"):
        answer = exchange(control, issuer.assertion("ignored", "wide", who=name))
        client = WorkspaceClient(host=control.address.host, token=answer.json()["access_token"])
        assert client.current_user.me().user_name == name
    nobody = exchange(control, issuer.assertion("ignored", "wide", who="nobody@example.com"))
    assert "nobody@example.com" in nobody.json()["error_description"]
    with_client = exchange(control, issuer.assertion("ignored", "wide", who=trainer), client_id=trainer)
    assert "no federation policy is configured for service principal" in with_client.json()["error_description"]
    assert made.policy_id is not None
    admin.federation_policy.delete(made.policy_id)
    assert exchange(control, issuer.assertion("ignored", "wide", who=trainer)).status_code == 400


def test_a_policy_that_the_platform_does_not_accept_is_refused(
    control: SandboxControl, admin: AccountClient, issuer: TestIssuer
) -> None:
    number = scim_id(control, control.add_principal("trainer"))
    policies = admin.service_principal_federation_policy
    for bad, words in (
        (policy(issuer.url), "needs a subject"),
        (policy("http://issuer.test", subject="x"), "https"),
        (policy(issuer.url, subject="x", jwks_json="{}"), "jwks_json"),
    ):
        with pytest.raises(InvalidParameterValue, match=words):
            policies.create(number, bad)
    with pytest.raises(InvalidParameterValue, match="lower-case"):
        policies.create(number, policy(issuer.url, subject="x"), policy_id="Team A")
    with pytest.raises(InvalidParameterValue, match="has no subject"):
        admin.federation_policy.create(policy(issuer.url, subject="x"))
    with pytest.raises(NotFound):
        policies.get(number, "none")
    with pytest.raises(NotFound):
        list(policies.list(1))


def test_only_account_admins_see_policies_and_only_with_a_token_of_the_account(
    control: SandboxControl, signed_in: Callable[[str], AccountClient]
) -> None:
    trainer = control.add_principal("trainer", groups=["admins"])
    number = scim_id(control, trainer)
    client = signed_in(trainer)
    with pytest.raises(PermissionDenied, match="account admins"):
        list(client.service_principal_federation_policy.list(number))
    control.account_admin(trainer)
    assert list(client.service_principal_federation_policy.list(number)) == []
    for token in (control.issue_token(trainer), control.add_personal_access_token(trainer).value):
        stranger = AccountClient(host=control.address.account_host, account_id=control.address.account_id, token=token)
        with pytest.raises(Unauthenticated):
            list(stranger.service_principal_federation_policy.list(number))
    control.account_admin(trainer, admin=False)
    with pytest.raises(PermissionDenied):
        list(client.service_principal_federation_policy.list(number))


def test_a_token_of_the_account_is_good_for_the_workspace_too(control: SandboxControl, admin: AccountClient) -> None:
    header = admin.config.authenticate()["Authorization"]
    workspace = WorkspaceClient(host=control.address.host, token=header.removeprefix("Bearer "))
    assert workspace.current_user.me().user_name == admin.config.client_id
    claims = jwt.decode(header.removeprefix("Bearer "), options={"verify_signature": False})
    assert claims["iss"] == f"{control.address.account_host}/oidc/accounts/{control.address.account_id}"


def test_keys_given_with_the_policy_verify_without_asking_the_issuer(
    control: SandboxControl, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with TestIssuer(tmp_path_factory.mktemp("private")) as private:
        trainer = control.add_principal("trainer")
        control.add_policy(trainer, private.url, SUBJECT, [AUDIENCE], jwks_json=json.dumps(private.jwks()))
        assertion = private.assertion(SUBJECT, AUDIENCE)
    assert exchange(control, assertion, client_id=trainer).status_code == 200  # the issuer is gone
    with TestIssuer(tmp_path_factory.mktemp("elsewhere")) as keys:
        other = control.add_principal("other")
        control.trust_issuer("https://issuer.test", keys.ca_file)
        uri = keys.discovery["jwks_uri"]
        control.add_policy(other, "https://issuer.test", SUBJECT, [AUDIENCE], jwks_uri=uri)
        assertion = keys.assertion(SUBJECT, AUDIENCE, iss="https://issuer.test")
        assert exchange(control, assertion, client_id=other).status_code == 200
        keys.rotate("second")
        control.forget_issuer_keys("https://issuer.test")
        assert "no signing key" in exchange(control, assertion, client_id=other).json()["error_description"]

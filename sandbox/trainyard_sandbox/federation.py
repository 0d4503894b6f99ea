"""What a federation policy may be, whoever makes it: the account's API or the control API.

Databricks documentation, "Configure a federation policy": an https issuer; a subject for a service principal's policy
and none for an account-wide one; the account id unless audiences are given; at most 20 of each. `jwks_json` and
`jwks_uri`: databricks-sdk `service/oauth2.py`, OidcFederationPolicy.
"""

from __future__ import annotations

import uuid
from typing import Any

from trainyard_sandbox.errors import already_exists, invalid_parameter
from trainyard_sandbox.issuers import AssertionRefusedError, parse_jwks
from trainyard_sandbox.principals import MAX_FEDERATION_POLICIES, FederationPolicy
from trainyard_sandbox.state import SandboxState


def add_policy(state: SandboxState, given: dict[str, Any]) -> FederationPolicy:
    """Keep a policy of the fields of `FederationPolicy`, account-wide without an application id.

    Raises:
        ApiError: 400, it is none that the platform accepts.
    """
    application_id = given.get("application_id")
    _check(state, application_id, given)
    existing = [policy for policy in state.directory.policies if policy.application_id == application_id]
    if len(existing) >= MAX_FEDERATION_POLICIES:
        raise invalid_parameter(f"At most {MAX_FEDERATION_POLICIES} federation policies are allowed.")
    policy_id = given.get("policy_id", str(uuid.uuid4()))
    if any(policy.policy_id == policy_id for policy in existing):
        raise already_exists(f"Federation policy {policy_id} exists already.")
    policy = FederationPolicy(
        issuer=given["issuer"],
        audiences=tuple(given.get("audiences") or [state.account_id]),
        application_id=application_id,
        subject=given.get("subject"),
        subject_claim=given.get("subject_claim", "sub"),
        jwks_json=given.get("jwks_json"),
        jwks_uri=given.get("jwks_uri"),
        description=given.get("description", ""),
        created_at=state.now(),
        policy_id=policy_id,
    )
    state.directory.policies.append(policy)
    return policy


def _check(state: SandboxState, application_id: str | None, given: dict[str, Any]) -> None:
    for name in ("issuer", "jwks_uri"):
        if not given.get(name, "https://").startswith("https://"):
            raise invalid_parameter(f"The {name} must be an https URL.")
    if application_id is None and "subject" in given:
        raise invalid_parameter("An account-wide policy has no subject: its subject claim names the principal.")
    if application_id is not None:
        state.directory.require(application_id)
        if "subject" not in given:
            raise invalid_parameter("A service principal's policy needs a subject.")
    if "jwks_json" in given and "jwks_uri" in given:
        raise invalid_parameter("Only one of jwks_json and jwks_uri may be given.")
    if "jwks_json" in given:
        try:
            parse_jwks(given["jwks_json"])
        except AssertionRefusedError as error:
            raise invalid_parameter(f"jwks_json is not a JWKS document: {error}.") from error

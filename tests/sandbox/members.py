"""Further principals of the sandbox's workspace, each federated with a subject of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import pytest
from databricks.sdk import WorkspaceClient

from trainyard_sandbox.client import SandboxControl

from .conftest import AUDIENCE
from .issuer import TestIssuer


@dataclass(frozen=True)
class Member:
    """A service principal and the unmodified SDK speaking for it."""

    application_id: str
    client: WorkspaceClient


MemberFactory = Callable[..., Member]


@pytest.fixture
def member(control: SandboxControl, issuer: TestIssuer, client_for: Callable[..., WorkspaceClient]) -> MemberFactory:
    """Add a principal: `member("analyst", {"main": ["USE_CATALOG"]})`."""

    def add(name: str, grants: Mapping[str, Sequence[str]] | None = None) -> Member:
        application_id = control.add_principal(name, entitlements=["workspace-access", "allow-cluster-create"])
        for securable, privileges in (grants or {}).items():
            control.grant(application_id, securable, *privileges)
        subject = f"system:serviceaccount:team-b:{name}"
        control.add_policy(application_id, issuer.url, subject, [AUDIENCE])
        return Member(application_id, client_for(control, application_id, subject=subject))

    return add

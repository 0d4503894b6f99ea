"""Why an identity does not work, one by one: how each comes about, how it is mended, and what has to be told of it.

Used by test_early_catch.py. Everything happens in the sandbox, behind the operator's back.
"""

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from stand import AUDIENCE, wait_for
from tests.e2e.scene import Scene

ENTRA_AUDIENCE = "api://AzureADTokenExchange"
# A sentence of the message that says what to do, on each platform.
Fix = Mapping[str, str]
POLICY = {
    "databricks": "databricks account service-principal-federation-policy create",
    "azureml": "az ad app federated-credential create --id",
}
JWKS = dict.fromkeys(POLICY, "/.well-known/openid-configuration")
CLOCK = dict.fromkeys(POLICY, "chronyc tracking")
ACCESS = {
    "databricks": "databricks account workspace-assignment update",
    "azureml": "az role assignment create --assignee",
}


@dataclass
class Case:
    """A namespace whose ServiceAccount has opted in to a principal of its own, on the scene's platform."""

    scene: Scene
    namespace: str
    principal: str = ""
    trusted: str = ""
    _again: "itertools.count[int]" = field(default_factory=itertools.count)

    @property
    def is_databricks(self) -> bool:
        return self.scene.platform.name == "databricks"

    @property
    def issuer(self) -> str:
        return str(self.scene.cluster.issuer)

    def make(self, *, may_work: bool = True) -> None:
        """The principal, which nothing trusts yet, and the ServiceAccount."""
        control = self.scene.control
        if self.is_databricks:
            self.principal = control.add_principal(self.namespace, entitlements=["workspace-access"] * may_work)
        else:
            control.add_azure_compute("cpu-cluster")
            self.principal = control.add_application(
                self.namespace, roles={"workspace": ["AzureML Data Scientist"] * may_work}
            )
        annotations = {self.scene.platform.annotation(): self.principal}
        metadata = {"name": "trainer", "namespace": self.namespace, "annotations": annotations}
        self.scene.apply(
            {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": self.namespace}},
            {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata},
        )

    def trust(self, issuer: str = "", audience: str = "") -> None:
        """Has the platform trust the ServiceAccount, and only so."""
        control, issuer = self.scene.control, issuer or self.issuer
        subject = f"system:serviceaccount:{self.namespace}:trainer"
        if self.is_databricks:
            if self.trusted:
                control.remove_policy(self.trusted)
            self.trusted = control.add_policy(self.principal, issuer, subject, [audience or AUDIENCE])
            return
        if self.trusted:
            control.remove_federated_credential(self.principal, self.trusted)
        self.trusted = control.add_federated_credential(self.principal, issuer, subject, [audience or ENTRA_AUDIENCE])

    def let_work(self) -> None:
        """Gives the right that `make` withheld."""
        if self.is_databricks:
            self.scene.control.change_principal(self.principal, entitlements=["workspace-access"])
        else:
            self.scene.control.assign_role(self.principal, "AzureML Data Scientist")

    def apply(self) -> None:
        """Applies the workspace."""
        self.scene.apply(self.scene.platform.workspace(self.namespace))

    def becomes_ready(self) -> None:
        """Has the workspace looked at again, by a change of its spec as people make one, until it is ready."""

        def ready() -> bool:
            self.scene.operator.check()
            name = self.scene.platform.name
            status = self.scene.read("mlworkspaces", self.namespace, name).get("status", {})
            if any(c["reason"] == "IdentityWorks" for c in status.get("conditions", [])):
                return True
            again = {"again": {"pip": [f"package-{next(self._again)}"]}}
            self.scene.patch("mlworkspace", self.namespace, name, {"spec": {"runtimes": again}})
            return False

        wait_for(f"{self.namespace} to be ready", ready, 90, pause=1.0)


Step = Callable[[Case], Any]


@dataclass(frozen=True)
class Cause:
    """One cause: `comes` before the workspace is applied, `mend` takes it away. `state` is which condition is True."""

    reason: str
    comes: Step
    mend: Step
    fix: Fix
    state: str = "Reconciling"
    says: str = ""


def _global(change: Callable[[Case], None]) -> Step:
    """Something beside the namespace's own principal, which is as it should be."""

    def comes(case: Case) -> None:
        case.make()
        case.trust()
        change(case)

    return comes


def _untrusted(**trust: str) -> Step:
    def comes(case: Case) -> None:
        case.make()
        case.trust(**trust)

    return comes


def _without_right(case: Case) -> None:
    case.make(may_work=False)
    case.trust()


def _clock(seconds: float) -> Callable[[Case], None]:
    return lambda case: case.scene.control.settings(clock_offset_seconds=seconds)


def _issuer(fault: str | None) -> Callable[[Case], None]:
    return lambda case: case.scene.control.break_issuer(case.issuer, fault)


CAUSES: dict[str, Cause] = {
    "expired, by the platform's clock": Cause(
        "ClockSkew", _global(_clock(3600)), _clock(0), CLOCK, "Stalled", "60 minutes ahead of the operator's"
    ),
    "not yet valid, by the platform's clock": Cause(
        "ClockSkew", _global(_clock(-3600)), _clock(0), CLOCK, "Stalled", "60 minutes behind the operator's"
    ),
    "wrong audience": Cause("AudienceNotAccepted", _untrusted(audience="another"), Case.trust, POLICY),
    "unknown issuer": Cause("IssuerNotTrusted", _untrusted(issuer="https://issuer.example"), Case.trust, POLICY),
    "revoked key": Cause("SignatureRefused", _global(_issuer("keys-revoked")), _issuer(None), JWKS),
    "unreachable issuer": Cause("IssuerUnreachable", _global(_issuer("unreachable")), _issuer(None), JWKS),
    "missing role or entitlement": Cause("PermissionDenied", _without_right, Case.let_work, ACCESS, "Stalled"),
}

"""The one place that turns a workspace's identity into a principal, and a target into tokens.

Used by the session controller and by the doctor. Checks before any mode is asked that the host is allowed, and that an
identity of the operator's own is lent only by a ClusterMLWorkspace and only to namespaces that it names (invariant 5).
"""

import threading
import time
from collections import OrderedDict
from collections.abc import Mapping

from trainyard.api.identity import FEDERATED, MODES, OPERATOR_WIDE, Identity
from trainyard.api.workspace import ClusterMLWorkspaceSpec, MLWorkspaceSpec
from trainyard.core.errors import IdentityError
from trainyard.core.snapshot import Target
from trainyard.identity import clouds
from trainyard.identity.base import Caution, Mode, Speaker, TokenSource
from trainyard.identity.cached import Sources
from trainyard.identity.hosts import HostPolicy
from trainyard.identity.signing_in import DATABRICKS_SCOPE, block_of, check_taken, scopes

# Who opts in is asked for again after this many seconds; each mint asks anyway.
CONSENT_HOLDS = 30.0
MOST_CONSENTS = 4096
MOST_SOURCES = 4096


class Broker:
    """Principals and tokens of every workspace. Safe to use from several threads.

    Args:
        hosts: which hosts of Databricks may be talked to; those of Azure are what `identity.clouds` knows.
        modes: by their names in `api.identity.MODES`; a mode that is not there is refused.
    """

    def __init__(self, hosts: HostPolicy, modes: Mapping[str, Mode], *, bound: int = MOST_SOURCES) -> None:
        self._hosts = hosts
        self._modes = modes
        self._sources: Sources[tuple[Target, str, str], TokenSource] = Sources(bound)
        self._lock = threading.Lock()
        self._speakers: OrderedDict[tuple[Identity, str, str], tuple[Speaker, float]] = OrderedDict()

    def check_host(self, workspace: MLWorkspaceSpec) -> str:
        """What attempts in the workspace are pinned to, if it is allowed: its origin; of Azure ML, its URL in ARM.

        Raises:
            IdentityError: HostNotAllowed, also for a cloud that this operator does not know; InvalidSpec, for an Entra
                of another cloud than the host's.
        """
        if workspace.azure_ml is not None:
            return clouds.workspace_at(workspace.azure_ml).url
        if workspace.databricks is not None:
            host = self._hosts.check(workspace.databricks.host)
            if workspace.identity.entra is not None:
                check_taken(clouds.named(workspace.identity.entra.cloud, block_of(DATABRICKS_SCOPE)), host)
            return host
        raise IdentityError(
            "the workspace names no platform; add spec.databricks or spec.azureML", reason="InvalidSpec"
        )

    def check_target(self, target: Target) -> None:
        """Checks a target that was pinned earlier, perhaps by an operator with other flags.

        Raises:
            IdentityError: HostNotAllowed.
        """
        if target.platform == "azureml":
            clouds.workspace_of(target.host)
        else:
            self._hosts.check(target.host)

    def target(self, workspace: MLWorkspaceSpec, namespace: str) -> Target:
        """Where a new attempt of that namespace would go and as whom. Reads from the API server; mints nothing.

        Raises:
            IdentityError: the host or the mode is not allowed, or what the mode needs is missing or has not opted in.
        """
        host, identity = self.check_host(workspace), workspace.identity
        platform, tenant = _platform(workspace), identity.entra.tenant_id if identity.entra is not None else ""
        if workspace.azure_ml is not None:
            tenant = workspace.azure_ml.tenant_id
        speaker = self._speaking(workspace, namespace)
        given = identity.federated
        plain = given is not None and given.policy is None and given.entra is None
        pinned = None if plain else identity
        return Target(platform, host, speaker.principal, identity.mode, speaker.service_account, tenant, pinned)

    def cautions(self, workspace: MLWorkspaceSpec, namespace: str) -> tuple[Caution, ...]:
        """What has to be told about the identity while it works. Mints nothing; raises as `target` does."""
        return self._speaking(workspace, namespace).cautions

    def source(self, target: Target, namespace: str, scope: str) -> TokenSource:
        """Tokens for the target when that namespace asks. Sends nothing.

        `scope` is what the platform asks for; Databricks' connections ask for nothing in particular, and get the one
        kind of token that the target has.

        Raises:
            ValueError: the scope is none of the target's.
            IdentityError: ModeNotAllowed; InvalidSpec, of an attempt that lacks what its mode needs; or what the mode
                raises.
        """
        allowed = scopes(target)
        if not scope:
            scope = allowed[0]
        if scope not in allowed:
            raise ValueError(f"{scope} is no scope of {target.host}")
        mode = self._mode(target.mode)
        if (target.identity.mode if target.identity is not None else FEDERATED) != target.mode:
            raise IdentityError(
                f"the attempt pins no identity of the mode {target.mode}: its status was written by somebody else, or "
                "kept by an older CRD of MLTrainingRun; apply the files in crds/, and start the run anew",
                reason="InvalidSpec",
            )
        return self._sources.get((target, namespace, scope), lambda: mode.source(target, namespace, scope))

    def _speaking(self, workspace: MLWorkspaceSpec, namespace: str) -> Speaker:
        identity = workspace.identity
        mode = self._mode(identity.mode)
        if identity.mode in OPERATOR_WIDE:
            _require_lent(workspace, namespace)
        return self._speaker(mode, identity, namespace, _platform(workspace))

    def _mode(self, name: str) -> Mode:
        mode = self._modes.get(name)
        if mode is None:
            raise IdentityError(
                f"identity names no mode that this operator has ({', '.join(m for m in MODES if m in self._modes)})",
                reason="ModeNotAllowed",
            )
        return mode

    def _speaker(self, mode: Mode, identity: Identity, namespace: str, platform: str) -> Speaker:
        key = (identity, namespace, platform)
        with self._lock:
            known = self._speakers.get(key)
        if known is not None and time.monotonic() < known[1]:
            return known[0]
        speaker = mode.speaker(identity, namespace, platform)
        with self._lock:
            self._speakers.pop(key, None)
            self._speakers[key] = (speaker, time.monotonic() + CONSENT_HOLDS)
            while len(self._speakers) > MOST_CONSENTS:
                self._speakers.popitem(last=False)
        return speaker


def _platform(workspace: MLWorkspaceSpec) -> str:
    return "azureml" if workspace.azure_ml is not None else "databricks"


def _require_lent(workspace: MLWorkspaceSpec, namespace: str) -> None:
    """The schema says the same of MLWorkspaces; this holds where somebody has another schema installed."""
    mode = workspace.identity.mode
    if not isinstance(workspace, ClusterMLWorkspaceSpec):
        raise IdentityError(
            f"{mode} is the operator's own identity, which only a ClusterMLWorkspace may lend; use another mode",
            reason="ModeNotAllowed",
        )
    if namespace not in workspace.allowed_namespaces:
        raise IdentityError(
            f"namespace {namespace} is not in spec.allowedNamespaces, so it may not use the operator's own identity",
            reason="NamespaceNotAllowed",
        )

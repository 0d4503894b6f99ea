"""What one examination knows so far: given when it begins, and added to by each link for those that depend on it."""

from dataclasses import dataclass, field

from trainyard.api.workspace import MLWorkspaceSpec
from trainyard.audit.log import AuditLog
from trainyard.client.doctor import remedies
from trainyard.client.doctor.cluster import CLUSTER_WORKSPACE, Cluster
from trainyard.client.doctor.results import Remedy
from trainyard.client.doctor.tools import Tools
from trainyard.core.snapshot import Target
from trainyard.identity.assertion import Assertion
from trainyard.identity.base import AccessToken, ServiceAccountRef
from trainyard.identity.broker import Broker
from trainyard.platforms.base import Account, Connection, TokensFor


@dataclass(frozen=True, slots=True)
class Subject:
    """What is examined: a workspace, for the runs of a namespace."""

    kind: str
    name: str
    namespace: str

    @property
    def shared(self) -> bool:
        """Whether it is a ClusterMLWorkspace."""
        return self.kind == CLUSTER_WORKSPACE

    def __str__(self) -> str:
        return f"{self.kind} {self.name}" if self.shared else f"{self.kind} {self.namespace}/{self.name}"

    def arguments(self) -> list[str]:
        """The command line that examines it."""
        return ["doctor", "-n", self.namespace, *(["--cluster"] if self.shared else []), self.name]


@dataclass(frozen=True, slots=True)
class Means:
    """What links look with.

    `operator` is the operator's ServiceAccount, `own_name` the user that the API server takes us for.
    """

    cluster: Cluster
    broker: Broker
    log: AuditLog
    tools: Tools
    operator: ServiceAccountRef
    own_name: str

    @property
    def operator_name(self) -> str:
        """The user that the API server takes the operator for."""
        return f"system:serviceaccount:{self.operator.namespace}:{self.operator.name}"

    @property
    def is_operator(self) -> bool:
        """Whether this is the operator's own pod, where what is refused is refused to the operator."""
        return self.own_name == self.operator_name


@dataclass(slots=True)
class Case:
    """One examination. A link that depends on something is only looked at once it is there (`chain`)."""

    subject: Subject
    means: Means
    found_workspace: MLWorkspaceSpec | None = None
    told: str = ""  # what the operator says of the workspace, as reason of its condition Ready
    told_principal: str = ""  # who the operator was there, as its status says
    found_target: Target | None = None
    assertion: Assertion | None = None
    access: dict[str, AccessToken] = field(default_factory=dict)  # by scope
    found_connection: Connection | None = None
    account: Account | None = None
    principal_id: str = ""  # the number of a Databricks service principal, where a CLI has told it

    @property
    def workspace(self) -> MLWorkspaceSpec:
        """The workspace's spec. To be asked once its link has passed."""
        assert self.found_workspace is not None  # noqa: S101
        return self.found_workspace

    @property
    def target(self) -> Target:
        """Where a run would go and as whom. To be asked once its link has passed."""
        assert self.found_target is not None  # noqa: S101
        return self.found_target

    @property
    def connection(self) -> Connection:
        """The operator's connection. To be asked once its link has passed."""
        assert self.found_connection is not None  # noqa: S101
        return self.found_connection

    def tokens(self) -> TokensFor:
        """The operator's own token sources for the target."""
        return lambda scope: self.means.broker.source(self.target, self.subject.namespace, scope)

    def in_operator(self) -> Remedy:
        """This examination, as the operator."""
        return remedies.in_operator(self.means.operator, self.subject.arguments())

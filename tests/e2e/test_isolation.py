"""Nobody borrows an identity: what each of two namespaces may use and what not, on every platform (invariant 5).

One row of the table is one thing that a team tries. What works is done as its own principal and nobody else's. What
does not is told in a condition, and two witnesses say that nothing was asked for: the API server's audit log has no
request of a token, nor a look at a Secret that is not the team's to use; the platform's log has no request at all.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from http import HTTPStatus

import pytest

from stand import OPERATOR_NAMESPACE, Stand, Team, stand, wait_for
from tests.e2e import isolation_tries as tries
from tests.e2e.isolation import HOLDS, OPT_IN, Mark, Pair
from tests.e2e.isolation_tries import KEPT
from tests.e2e.scene import Run, Scene
from tests.platforms import NAMES, on_every_platform
from trainyard.cli.wiring import USAGE
from trainyard_localcluster import LocalCluster
from trainyard_localcluster.api import ApiError
from trainyard_localcluster.pytest_plugin import control_plane

# No workspace is looked at again while the tests run: each request in the platform's log has its reason in a test.
OPERATOR_FLAGS = {"workspace_recheck_seconds": "3600", "allowed_issuer": tries.PROVIDER}
ACCOUNT_NAME = "serviceAccountName"
# What comes of a try: a run that succeeds, as whom; an object that the API server refuses; or a reason in a condition.
BY_ACCOUNT, BY_SECRET, BY_OPERATOR = "works by a ServiceAccount", "works by a Secret", "works as the operator's own"
WORKS = (BY_ACCOUNT, BY_SECRET, BY_OPERATOR)
SCHEMA = "refused by the API server"


@dataclass(frozen=True)
class Cell:
    """One row: what our namespace tries, and what comes of it.

    `says` are words of the message. `reads` is whether our own Secret has to be read to find out.
    """

    name: str
    expected: str
    tried: tries.Tried
    says: str = ""
    reads: bool = False


CELLS = [
    Cell("own workspace", BY_ACCOUNT, tries.own_account),
    Cell("the other's workspace by its name", "WorkspaceNotFound", tries.others_workspace),
    Cell("the other's workspace with its namespace", SCHEMA, tries.others_workspace_by_path, "workspaceRef.name"),
    Cell("cluster workspace that allows us", BY_ACCOUNT, tries.shared_with_us),
    Cell("cluster workspace that allows others", "NamespaceNotAllowed", tries.shared_with_them, "allowedNamespaces"),
    Cell("the other's ServiceAccount by its name", "ServiceAccountNotFound", tries.account("<account>")),
    Cell("the other's ServiceAccount in a cluster workspace", "ServiceAccountNotFound", tries.shared_by_others_account),
    Cell("the other's ServiceAccount with a slash", SCHEMA, tries.account("<theirs>/<account>"), ACCOUNT_NAME),
    Cell("the other's ServiceAccount by a path", SCHEMA, tries.account("../<theirs>/<account>"), ACCOUNT_NAME),
    Cell(
        "the other's ServiceAccount as a user", SCHEMA, tries.account("system:serviceaccount:<theirs>:x"), ACCOUNT_NAME
    ),
    Cell("ServiceAccount of kube-system", "ServiceAccountNotFound", tries.system_account),
    Cell("ServiceAccount without opt-in", "ServiceAccountNotOptedIn", tries.not_opted_in, "trainyard.dev/"),
    Cell("hostile host", "HostNotAllowed", tries.hostile_host),
    Cell("own Secret", BY_SECRET, tries.own_secret),
    Cell("own Secret in a cluster workspace", BY_SECRET, tries.own_secret_in_shared),
    Cell("the other's Secret by its name", "SecretNotFound", tries.others_secret),
    Cell("the other's Secret in a cluster workspace", "SecretNotFound", tries.others_secret_in_shared),
    Cell("the other's Secret, which alone may be read", "OperatorForbidden", tries.others_secret_unallowed, "secrets"),
    Cell("the other's Secret with a slash", SCHEMA, tries.others_secret_by_path, "secretRef.name"),
    Cell("Secret without opt-in", "SecretNotOptedIn", tries.silent_secret, OPT_IN, reads=True),
    Cell(
        "Secret that opts in for something else",
        "SecretNotOptedIn",
        tries.secret_for_something_else,
        OPT_IN,
        reads=True,
    ),
    Cell("personal access token that nobody allowed", SCHEMA, tries.someones_token, "allowPersonalAccessToken"),
    Cell("hostile issuer", "IssuerNotAllowed", tries.hostile_issuer, "--allowed-issuer"),
    Cell(
        "hostile issuer in a cluster workspace", "IssuerNotAllowed", tries.hostile_issuer_in_shared, "--allowed-issuer"
    ),
    Cell("the other's client Secret", "SecretNotFound", tries.others_client),
    Cell("client Secret without opt-in", "SecretNotOptedIn", tries.silent_client, OPT_IN, reads=True),
    *(
        cell
        for mode in (tries.MANAGED, tries.WORKLOAD)
        for cell in (
            Cell(f"{mode} in an own workspace", SCHEMA, tries.operators_own(mode), "ClusterMLWorkspace"),
            Cell(f"{mode} lent to others", "NamespaceNotAllowed", tries.lent_to_them(mode), "allowedNamespaces"),
            Cell(f"{mode} lent to us", BY_OPERATOR, tries.lent_to_us(mode)),
        )
    ),
]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCluster]:
    """A control plane of the module's own: whatever its audit log has was asked here."""
    yield from control_plane(tmp_path_factory)


@pytest.fixture(scope="module")
def pretending(cluster: LocalCluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stand]:
    """A sandbox of the module's own, whose runs only go through their states."""
    with stand(tmp_path_factory.mktemp("isolation"), "pretend", cluster) as made:
        yield made


def operator_env(stand: Stand) -> dict[str, str]:
    """What an operator in AKS finds: the webhook's variables with a token of its own, and a metadata service."""
    account = f"/api/v1/namespaces/{OPERATOR_NAMESPACE}/serviceaccounts/trainyard"
    request = {"spec": {"audiences": ["api://AzureADTokenExchange"], "expirationSeconds": 7200}}
    token = stand.dir / "isolation.token"
    token.touch(0o600)
    token.write_text(stand.cluster.call("POST", f"{account}/token", request)["status"]["token"])
    return {
        "AZURE_CLIENT_ID": "somebody-else",
        "AZURE_TENANT_ID": stand.address.azure.tenant_id,
        "AZURE_FEDERATED_TOKEN_FILE": str(token),
        "AZURE_AUTHORITY_HOST": stand.address.azure.authority,
        "TRAINYARD_IMDS_ENDPOINT": stand.address.imds,
    }


@pytest.fixture(scope="module")
def others(_pretending_scene: Scene) -> Iterator[dict[str, Team]]:
    """Their namespace on each platform, with a workspace that works and a Secret, and nothing under way."""
    scene, made = _pretending_scene, {}
    for name in NAMES:
        scene.on(name)
        made[name] = team = scene.platform.team(f"isolation-theirs-{name}", service_account="theirs")
        pair = Pair(scene, team, team, "")
        pair.secret(team, KEPT, HOLDS[name], pair.credential(team))
        scene.stand.allow_secret(team.namespace, KEPT)
        scene.workspace(team.namespace, "IdentityWorks")
    yield made
    for team in made.values():
        scene.cluster.call("DELETE", f"/api/v1/namespaces/{team.namespace}")


@pytest.fixture(scope="module")
def lent(_pretending_scene: Scene) -> str:
    """Client id of an identity of the operator's own: its machine has it, and it trusts its ServiceAccount."""
    control = _pretending_scene.control
    made = control.add_managed_identity("isolation-lent", roles={"workspace": ["AzureML Data Scientist"]})
    subject = f"system:serviceaccount:{OPERATOR_NAMESPACE}:trainyard"
    control.add_federated_credential(made.client_id, _pretending_scene.cluster.issuer, subject)
    control.add_principal(
        "isolation-lent",
        application_id=made.client_id,
        entitlements=["workspace-access", "allow-cluster-create"],
        grants={"main": ["USE CATALOG"], "main.ml": ["USE SCHEMA", "CREATE MODEL"]},
    )
    return made.client_id


@pytest.fixture
def pair(scene: Scene, others: dict[str, Team], lent: str) -> Iterator[Pair]:
    """Both namespaces. Ours has a ServiceAccount that is trusted, and no workspace; it goes after the test."""
    ours = scene.platform.newcomer(scene.namespace())
    made = Pair(scene, ours, others[scene.platform.name], lent)
    yield made
    made.leave()


@on_every_platform
@pytest.mark.parametrize("cell", [pytest.param(cell, id=cell.name) for cell in CELLS])
def test_a_team_uses_what_is_its_own_and_nothing_else(pair: Pair, cell: Cell) -> None:
    before = pair.mark()
    if cell.expected == SCHEMA:
        with pytest.raises(ApiError, match=re.escape(cell.says)) as refused:
            pair.run(cell.tried(pair))
        assert refused.value.status == HTTPStatus.UNPROCESSABLE_ENTITY
        assert_nothing_was_asked(pair, before)
        return
    run = pair.run(cell.tried(pair))
    if cell.expected in WORKS:
        assert_done_as_ourselves(pair, before, run.until("Succeeded"), cell.expected)
        return
    assert cell.says in refusal(pair, run, cell.expected)
    pair.told(before, run)
    assert run.remote() == []
    assert_nothing_was_asked(pair, before, reads=cell.reads)


def refusal(pair: Pair, run: Run, reason: str) -> str:
    """The message of the condition with that reason: of our workspace if we have one, else of the run."""
    if not pair.scene.read("mlworkspaces", run.namespace, pair.ours.workspace):
        return run.because(reason).message
    message = str(pair.scene.workspace(run.namespace, reason)["message"])
    run.wait(f"to say {reason}", lambda _: f"({reason}): {message}" in run.condition().get("message", ""))
    assert run.reason == "WorkspaceNotReady"
    return message


def assert_done_as_ourselves(pair: Pair, before: Mark, run: Run, how: str) -> None:
    """The platform saw the principal that the run names, and the API server was asked for nothing but our own."""
    seen = run.status["identity"]["submittedAs"]
    assert run.only_remote().creator == seen
    assert seen == (pair.lent if how == BY_OPERATOR else pair.ours.principal)
    assert {request["principal"] for request in pair.asked_platform(before)} <= {None, seen}
    namespace = pair.ours.namespace
    assert pair.minted(before) == ({f"{namespace}/{pair.ours.service_account}"} if how == BY_ACCOUNT else set())
    assert pair.looked_at(before) == ({f"{namespace}/{KEPT}"} if how == BY_SECRET else set())


def assert_nothing_was_asked(pair: Pair, before: Mark, *, reads: bool = False) -> None:
    """No token of anybody, no Secret but the one that has to be looked at, and of the platform nothing at all."""
    own = f"{pair.ours.namespace}/{KEPT}"
    assert pair.minted(before) == set()
    assert pair.looked_at(before) <= {own}
    assert pair.read(before) == ({own} if reads else set())
    assert pair.asked_platform(before) == []


@pytest.mark.parametrize("audience", ["kubernetes.default.svc", "https://kubernetes.default.svc.cluster.local", "API"])
def test_an_operator_whose_audience_is_the_api_servers_does_not_start(scene: Scene, audience: str) -> None:
    operator = scene.stand.operator("isolation-audience", databricks_audience=audience)
    wait_for("the operator to end", lambda: not operator.alive())
    assert operator.stop() == USAGE
    assert "audience" in operator.log.read_text()


@pytest.fixture
def careless(scene: Scene) -> Iterator[Scene]:
    """An operator whose audience is the API server's issuer: an audience of its own that no list can know."""
    right = scene.flags
    scene.flags = {**right, "databricks_audience": scene.cluster.issuer}
    scene.restart()
    yield scene
    scene.flags = right
    scene.restart()


def test_a_token_that_the_api_server_itself_would_take_is_sent_to_nobody(careless: Scene) -> None:
    """What was minted is looked at before it is used."""
    team = careless.team()
    pair = Pair(careless, team, team, "")
    before = pair.mark()
    careless.workspace(team.namespace, "AssertionUnusable")
    assert f"{team.namespace}/{team.service_account}" in pair.minted(before)
    asked = [request["path"] for request in pair.asked_platform(before) if request["path"].startswith("/oidc/")]
    assert asked
    assert "/oidc/v1/token" not in asked

"""The requests that the doctor makes of the API server, with the rights of whoever runs it. Only reads, and one token.

Beside what a person sees, it is what `identity.modes` needs of Kubernetes, so that the modes are the operator's own.
A token is requested once and then used for every link, so that what is looked at is what is exchanged; it lives in
memory for one command.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from kubernetes import client
from kubernetes.client.exceptions import ApiException
from urllib3.exceptions import HTTPError

from trainyard.api.base import GROUP, VERSION
from trainyard.client.errors import ClientError, NotAllowed, NotFound, Unreachable
from trainyard.client.server import error_of
from trainyard.core.errors import IdentityError
from trainyard.identity.base import SecretData, SecretRef, ServiceAccountRef
from trainyard.identity.secret_object import secret_of

TIMEOUT = (5.0, 15.0)
CLUSTER_WORKSPACE = "ClusterMLWorkspace"
PLURALS = {"MLWorkspace": "mlworkspaces", CLUSTER_WORKSPACE: "clustermlworkspaces"}


@dataclass(frozen=True, slots=True)
class Right:
    """A right in the API server. `resource` has its subresource after a slash; `namespace` is empty for the cluster."""

    verb: str
    resource: str
    namespace: str
    name: str
    group: str = ""

    def __str__(self) -> str:
        where = f" in namespace {self.namespace}" if self.namespace else ""
        return f"{self.verb} {self.resource} {self.name}{where}"


class NotPermittedError(IdentityError):
    """Whoever runs the command may not ask for what a mode needs; it says nothing about the operator."""

    reason = "OperatorForbidden"

    def __init__(self, right: Right) -> None:
        super().__init__(f"the API server does not let you {right}", reason="OperatorForbidden")
        self.right = right


class Cluster:
    """One API server as one person or pod. Raises ClientError when it can not be reached."""

    def __init__(self, api: client.ApiClient) -> None:
        self._custom = client.CustomObjectsApi(api)
        self._core = client.CoreV1Api(api)
        self._authentication = client.AuthenticationV1Api(api)
        self._authorization = client.AuthorizationV1Api(api)
        self._api = api
        self._tokens: dict[tuple[ServiceAccountRef, str], str] = {}

    def own_name(self) -> str:
        """The user that the API server takes us for; empty where it does not tell (before Kubernetes 1.28)."""
        body: Any = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
        try:
            answer = _asked(lambda: self._authentication.create_self_subject_review(body, _request_timeout=TIMEOUT))
        except (NotAllowed, NotFound):
            return ""
        return str(answer.status.user_info.username)

    def workspace(self, kind: str, namespace: str, name: str) -> dict[str, Any]:
        """The MLWorkspace or ClusterMLWorkspace. Raises NotFound, NotAllowed."""
        plural = PLURALS[kind]
        if kind == CLUSTER_WORKSPACE:
            return dict(
                _asked(
                    lambda: self._custom.get_cluster_custom_object(
                        GROUP, VERSION, plural, name, _request_timeout=TIMEOUT
                    )
                )
            )
        return dict(
            _asked(
                lambda: self._custom.get_namespaced_custom_object(
                    GROUP, VERSION, namespace, plural, name, _request_timeout=TIMEOUT
                )
            )
        )

    def annotations(self, account: ServiceAccountRef) -> Mapping[str, str]:
        """See `identity.base.ServiceAccounts`."""
        right = Right("get", "serviceaccounts", account.namespace, account.name)
        found = self._needed(
            right,
            lambda: self._core.read_namespaced_service_account(
                account.name, account.namespace, _request_timeout=TIMEOUT
            ),
            _no_account(account),
        )
        return dict(found.metadata.annotations or {})

    def request_token(self, account: ServiceAccountRef, audience: str, seconds: int) -> str:
        """See `identity.base.ServiceAccounts`; the same token each time."""
        known = self._tokens.get((account, audience))
        if known is not None:
            return known
        body: Any = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "spec": {"audiences": [audience], "expirationSeconds": seconds},
        }
        answer = self._needed(
            token_right(account),
            lambda: self._core.create_namespaced_service_account_token(
                account.name, account.namespace, body, _request_timeout=TIMEOUT
            ),
            _no_account(account),
        )
        token = self._tokens[account, audience] = str(answer.status.token)
        return token

    def secret_data(self, secret: SecretRef) -> SecretData:
        """See `identity.base.Secrets`."""
        found = self._needed(
            secret_right(secret),
            lambda: self._core.read_namespaced_secret(secret.name, secret.namespace, _request_timeout=TIMEOUT),
            IdentityError(
                f"Secret {secret.name} does not exist in namespace {secret.namespace}; create it, or have it synced",
                reason="SecretNotFound",
                waiting=True,
            ),
        )
        return secret_of(found)

    def may(self, user: str, right: Right) -> bool | None:
        """Whether a ServiceAccount has a right (SubjectAccessReview); None where we may not ask that."""
        resource, _, subresource = right.resource.partition("/")
        body: Any = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SubjectAccessReview",
            "spec": {
                "user": user,
                "groups": _groups(user),
                "resourceAttributes": {
                    "verb": right.verb,
                    "group": right.group,
                    "resource": resource,
                    "subresource": subresource,
                    "namespace": right.namespace,
                    "name": right.name,
                },
            },
        }
        try:
            answer = _asked(lambda: self._authorization.create_subject_access_review(body, _request_timeout=TIMEOUT))
        except (NotAllowed, NotFound):
            return None
        return bool(answer.status.allowed)

    def issuer_documents(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """The discovery document and the keys of the API server's own issuer. Raises NotAllowed, NotFound."""
        options: dict[str, Any] = {"_preload_content": False, "_request_timeout": TIMEOUT}
        well_known, openid = client.WellKnownApi(self._api), client.OpenidApi(self._api)
        return (
            _document(_asked(lambda: well_known.get_service_account_issuer_open_id_configuration(**options))),
            _document(_asked(lambda: openid.get_service_account_issuer_open_id_keyset(**options))),
        )

    def _needed(self, right: Right, request: Callable[[], Any], absent: IdentityError) -> Any:
        try:
            return _asked(request)
        except NotFound as error:
            raise absent from error
        except NotAllowed as error:
            raise NotPermittedError(right) from error


def token_right(account: ServiceAccountRef) -> Right:
    """What it takes to request a ServiceAccount's token."""
    return Right("create", "serviceaccounts/token", account.namespace, account.name)


def secret_right(secret: SecretRef) -> Right:
    """What it takes to read a Secret."""
    return Right("get", "secrets", secret.namespace, secret.name)


def _groups(user: str) -> list[str]:
    """The groups that the API server puts a ServiceAccount into."""
    if not user.startswith("system:serviceaccount:"):
        return ["system:authenticated"]
    namespace = user.split(":")[2]
    return ["system:serviceaccounts", f"system:serviceaccounts:{namespace}", "system:authenticated"]


def _no_account(account: ServiceAccountRef) -> IdentityError:
    return IdentityError(
        f"ServiceAccount {account.name} does not exist in namespace {account.namespace}",
        reason="ServiceAccountNotFound",
        waiting=True,
    )


def _document(answer: Any) -> dict[str, Any]:
    try:
        found = json.loads(answer.data)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise Unreachable("the API server's own issuer documents are no JSON")
    return found


def _asked(request: Callable[[], Any]) -> Any:
    """The request's answer, with the client's errors (`client.errors`)."""
    try:
        return request()
    except ApiException as error:
        raise _error(error) from None  # it carries headers
    except HTTPError as error:
        raise Unreachable(f"the API server can not be reached: {type(error).__name__}") from error


def _error(error: ApiException) -> ClientError:
    return error_of(error.status or 0, error.reason or "", error.body)

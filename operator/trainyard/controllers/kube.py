"""The few requests that the operator makes of the API server. Used by the controllers and, for tokens, by `identity`.

Every call is synchronous, bounded in time and safe from several threads; controllers call it off the event loop.
It reads no Secret but those that runs name for their git repositories, and workspaces for their identity, where a team
has let it, and writes nothing but status, finalizers, events, run logs and token requests; it deletes finished runs
whose time is over.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast

from kubernetes import client
from kubernetes.client.exceptions import ApiException
from urllib3.exceptions import HTTPError

from trainyard.api.base import GROUP, VERSION
from trainyard.core.errors import IdentityError, TrainyardError
from trainyard.identity.base import SecretData, SecretRef, ServiceAccountRef
from trainyard.identity.secret_object import secret_of

# Connect and read, in seconds. An API server that is slower than this is retried by the queue.
TIMEOUT = (3.05, 10.0)


@dataclass(frozen=True, slots=True)
class Kind:
    """One of our kinds, as its REST path needs it."""

    name: str
    plural: str
    namespaced: bool


RUN = Kind("MLTrainingRun", "mltrainingruns", True)
WORKSPACE = Kind("MLWorkspace", "mlworkspaces", True)
CLUSTER_WORKSPACE = Kind("ClusterMLWorkspace", "clustermlworkspaces", False)
RUN_LOG = Kind("MLRunLog", "mlrunlogs", True)
DEPLOYMENT = Kind("ModelDeployment", "modeldeployments", True)
KINDS = {kind.name: kind for kind in (RUN, WORKSPACE, CLUSTER_WORKSPACE, RUN_LOG, DEPLOYMENT)}


class KubeError(TrainyardError):
    """The API server refused, or did not answer."""

    reason = "KubernetesError"


class ConflictError(KubeError):
    """The object has changed since it was read: read it again and decide again."""


class NotFoundError(KubeError):
    """The object is not there."""


class ForbiddenError(KubeError):
    """The operator's own ServiceAccount lacks a right."""


class Kube:
    """Requests to one API server with the operator's own credential."""

    def __init__(self, api: client.ApiClient) -> None:
        self._custom = client.CustomObjectsApi(api)
        self._core = client.CoreV1Api(api)
        self._authentication = client.AuthenticationV1Api(api)
        self.host = str(api.configuration.host)

    def require_kinds(self, group: str, version: str, plurals: list[str]) -> None:
        """Raises KubeError naming the kinds that the API server does not have."""
        try:
            found = _asked(lambda: self._custom.get_api_resources(group, version, _request_timeout=TIMEOUT))
            served = {resource.name for resource in found.resources}
        except NotFoundError:
            served = set()
        missing = [f"{plural}.{group}" for plural in plurals if plural not in served]
        if missing:
            raise KubeError(f"the API server does not serve {', '.join(missing)}; apply the files in crds/ first")

    def get(self, kind: Kind, namespace: str, name: str) -> dict[str, Any]:
        """The object now."""
        if kind.namespaced:
            return _object(
                lambda: self._custom.get_namespaced_custom_object(
                    GROUP, VERSION, namespace, kind.plural, name, _request_timeout=TIMEOUT
                )
            )
        return _object(
            lambda: self._custom.get_cluster_custom_object(GROUP, VERSION, kind.plural, name, _request_timeout=TIMEOUT)
        )

    def list_all(self, kind: Kind, namespace: str | None = None) -> list[dict[str, Any]]:
        """Every object of that kind, of one namespace or of all."""
        if kind.namespaced and namespace is not None:
            found = _object(
                lambda: self._custom.list_namespaced_custom_object(
                    GROUP, VERSION, namespace, kind.plural, _request_timeout=TIMEOUT
                )
            )
        else:
            found = _object(
                lambda: self._custom.list_cluster_custom_object(GROUP, VERSION, kind.plural, _request_timeout=TIMEOUT)
            )
        # Items of a list carry no kind of their own.
        head = {"apiVersion": f"{GROUP}/{VERSION}", "kind": kind.name}
        return [{**item, **head} for item in found["items"]]

    def put_status(self, kind: Kind, obj: Mapping[str, Any], status: Mapping[str, Any]) -> dict[str, Any]:
        """Replaces the whole status if the object is still the one that was read. Raises ConflictError if not."""
        meta = obj["metadata"]
        body = {
            "apiVersion": f"{GROUP}/{VERSION}",
            "kind": kind.name,
            "metadata": {k: meta[k] for k in ("name", "namespace", "uid", "resourceVersion") if k in meta},
            "spec": obj.get("spec", {}),
            "status": status,
        }
        if kind.namespaced:
            return _object(
                lambda: self._custom.replace_namespaced_custom_object_status(
                    GROUP, VERSION, meta["namespace"], kind.plural, meta["name"], body, _request_timeout=TIMEOUT
                )
            )
        return _object(
            lambda: self._custom.replace_cluster_custom_object_status(
                GROUP, VERSION, kind.plural, meta["name"], body, _request_timeout=TIMEOUT
            )
        )

    def put_finalizers(self, kind: Kind, obj: Mapping[str, Any], finalizers: list[str]) -> dict[str, Any]:
        """Sets the finalizers if the object is still the one that was read. Raises ConflictError if not."""
        meta = obj["metadata"]
        body = {"metadata": {"finalizers": finalizers, "resourceVersion": meta["resourceVersion"]}}
        merge = "application/merge-patch+json"
        if kind.namespaced:
            return _object(
                lambda: self._custom.patch_namespaced_custom_object(
                    GROUP,
                    VERSION,
                    meta["namespace"],
                    kind.plural,
                    meta["name"],
                    body,
                    _request_timeout=TIMEOUT,
                    _content_type=merge,
                )
            )
        return _object(
            lambda: self._custom.patch_cluster_custom_object(
                GROUP, VERSION, kind.plural, meta["name"], body, _request_timeout=TIMEOUT, _content_type=merge
            )
        )

    def create(self, kind: Kind, namespace: str, body: Mapping[str, Any]) -> None:
        """Creates an object of a namespaced kind. Raises ConflictError if one of its name is there."""
        _asked(
            lambda: self._custom.create_namespaced_custom_object(
                GROUP, VERSION, namespace, kind.plural, dict(body), _request_timeout=TIMEOUT
            )
        )

    def delete(self, kind: Kind, obj: Mapping[str, Any]) -> None:
        """Deletes the object of a namespaced kind, if it is still the one that was read, to the version.

        Raises ConflictError if not.
        """
        meta = obj["metadata"]
        options = {
            "preconditions": {"uid": meta["uid"], "resourceVersion": meta["resourceVersion"]},
            "propagationPolicy": "Background",
        }
        _asked(
            lambda: self._custom.delete_namespaced_custom_object(
                GROUP,
                VERSION,
                meta["namespace"],
                kind.plural,
                meta["name"],
                body=cast(Any, options),  # the client takes plain JSON as well as its own model
                _request_timeout=TIMEOUT,
            )
        )

    def namespace_uid(self, name: str) -> str:
        """The uid of a namespace."""
        found = _asked(lambda: self._core.read_namespace(name, _request_timeout=TIMEOUT))
        return str(found.metadata.uid)

    def own_name(self) -> str:
        """The user that the API server takes this operator for."""
        body: Any = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
        answer = _asked(lambda: self._authentication.create_self_subject_review(body, _request_timeout=TIMEOUT))
        return str(answer.status.user_info.username)

    def secret(self, namespace: str, name: str) -> dict[str, Any]:
        """One Secret, as `sources.git.credential_of` reads it: metadata, type, and data in Base64."""
        found = _asked(lambda: self._core.read_namespaced_secret(name, namespace, _request_timeout=TIMEOUT))
        annotations = dict(found.metadata.annotations or {})
        metadata = {"namespace": namespace, "name": name, "annotations": annotations}
        return {"metadata": metadata, "type": found.type, "data": dict(found.data or {})}

    def config_map(self, namespace: str, name: str) -> dict[str, bytes]:
        """The text entries of a ConfigMap, as bytes."""
        found = _asked(lambda: self._core.read_namespaced_config_map(name, namespace, _request_timeout=TIMEOUT))
        return {key: value.encode() for key, value in (found.data or {}).items()}

    def create_event(self, namespace: str, body: Mapping[str, Any]) -> None:
        """Writes a Kubernetes Event."""
        event = cast(Any, dict(body))  # the client takes plain JSON as well as its own model
        _asked(lambda: self._core.create_namespaced_event(namespace, event, _request_timeout=TIMEOUT))

    def annotations(self, account: ServiceAccountRef) -> Mapping[str, str]:
        """The ServiceAccount's annotations now. Raises IdentityError when it is not there."""
        try:
            found = _asked(
                lambda: self._core.read_namespaced_service_account(
                    account.name, account.namespace, _request_timeout=TIMEOUT
                )
            )
        except NotFoundError as error:
            raise _no_account(account) from error
        except ForbiddenError as error:
            raise IdentityError(
                f"the operator may not read ServiceAccount {account.namespace}/{account.name}; grant it 'get' on "
                "serviceaccounts there (chart value identity.serviceAccounts)",
                reason="OperatorForbidden",
            ) from error
        return dict(found.metadata.annotations or {})

    def secret_data(self, secret: SecretRef) -> SecretData:
        """A Secret that an identity is kept in. Raises IdentityError when it can not be read."""
        try:
            found = _asked(
                lambda: self._core.read_namespaced_secret(secret.name, secret.namespace, _request_timeout=TIMEOUT)
            )
        except NotFoundError as error:
            raise IdentityError(
                f"Secret {secret.name} does not exist in namespace {secret.namespace}; create it, or have it synced",
                reason="SecretNotFound",
                waiting=True,
            ) from error
        except ForbiddenError as error:
            role = f"trainyard-reads-{secret.name}"
            raise IdentityError(
                f"the operator may not read Secret {secret.namespace}/{secret.name}; allow it by a Role of that "
                f"namespace (kubectl create role {role} -n {secret.namespace} --verb=get --resource=secrets "
                f"--resource-name={secret.name}) and a RoleBinding of it to the operator's ServiceAccount; or add it "
                "to the chart value identity.secrets",
                reason="OperatorForbidden",
            ) from error
        return secret_of(found)

    def request_token(self, account: ServiceAccountRef, audience: str, seconds: int) -> str:
        """A token of the ServiceAccount for that audience. Raises IdentityError when it can not be had."""
        body: Any = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "spec": {"audiences": [audience], "expirationSeconds": seconds},
        }
        try:
            answer = _asked(
                lambda: self._core.create_namespaced_service_account_token(
                    account.name, account.namespace, body, _request_timeout=TIMEOUT
                )
            )
        except NotFoundError as error:
            raise _no_account(account) from error
        except ForbiddenError as error:
            raise IdentityError(
                f"the operator may not create tokens for ServiceAccount {account.namespace}/{account.name}; grant it "
                "'create' on serviceaccounts/token there (chart value identity.serviceAccounts)",
                reason="OperatorForbidden",
            ) from error
        return str(answer.status.token)


def _no_account(account: ServiceAccountRef) -> IdentityError:
    return IdentityError(
        f"ServiceAccount {account.name} does not exist in namespace {account.namespace}; create it",
        reason="ServiceAccountNotFound",
        waiting=True,
    )


def _object(request: Callable[[], object]) -> dict[str, Any]:
    return cast(dict[str, Any], _asked(request))


def _asked(request: Callable[[], Any]) -> Any:
    """The request's answer, with the client's errors told apart by what has to be done about them."""
    try:
        return request()
    except ApiException as error:
        raise _error_of(error) from None  # the original carries headers and bodies that need not reach a log
    except HTTPError as error:
        raise KubeError(f"the API server did not answer: {type(error).__name__}") from error


def _error_of(error: ApiException) -> KubeError:
    message = f"the API server answered {error.status} {error.reason}"
    kinds: dict[int, type[KubeError]] = {403: ForbiddenError, 404: NotFoundError, 409: ConflictError}
    return kinds.get(error.status, KubeError)(message)

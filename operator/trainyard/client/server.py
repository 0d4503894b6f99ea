"""The requests that the client makes of the API server, and what its answers mean. Used by this package only.

Every request is bounded in time and follows no redirect. What may have been carried out is never sent a second time:
whoever waits decides about trying again.
"""

import json
import re
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, cast

from kubernetes import client
from kubernetes.client.exceptions import ApiException
from urllib3.exceptions import HTTPError

from trainyard.api.base import API_VERSION, GROUP, VERSION
from trainyard.client.errors import ClientError, NotAllowed, NotFound, Problem, Refused, Unreachable

LOGS = "mlrunlogs"
# Who manages the fields that `apply` sets.
MANAGER = "trainyard"

# Connect and read, in seconds. Admission may take up to 30 s.
TIMEOUT = (5.0, 35.0)
# Seconds that the server may be silent beyond the end of a watch that it was asked to close.
WATCH_SLACK = 10.0
PAGE = 500
# Times that a busy server is asked, and seconds that it may ask to be left alone for.
BUSY_TIMES, LONGEST_BUSY = 5, 10

Object = dict[str, Any]
# What server-side apply says, with 500, of a field that the schema does not have (structured-merge-diff).
_UNTYPED = re.compile(r"failed to create typed patch object \(.*?\): \.(?P<field>\S+): (?P<why>.+)", re.DOTALL)


class WatchExpired(Exception):
    """The watch can not go on from where it was (410): read the object and watch from there."""


class Server:
    """Requests to one API server with the caller's own credential."""

    def __init__(self, api: client.ApiClient) -> None:
        self._api = api
        self._custom = client.CustomObjectsApi(api)
        self._core = client.CoreV1Api(api)

    def create(self, plural: str, namespace: str, body: Mapping[str, Any]) -> Object:
        """Makes the object. Fields that the schema does not have are refused rather than dropped."""
        return _asked(
            lambda: self._custom.create_namespaced_custom_object(
                GROUP, VERSION, namespace, plural, dict(body), field_validation="Strict", _request_timeout=TIMEOUT
            )
        )

    def apply(self, plural: str, namespace: str, name: str, body: Mapping[str, Any]) -> Object:
        """Makes the object, or changes it to what the body says (server-side apply), unless another manages a field."""
        answer = _asked_raw(
            lambda: self._custom.patch_namespaced_custom_object(
                GROUP,
                VERSION,
                namespace,
                plural,
                name,
                dict(body),
                field_manager=MANAGER,
                field_validation="Strict",
                _preload_content=False,  # the client expects no 201 of a patch
                _request_timeout=TIMEOUT,
                _content_type="application/apply-patch+yaml",
            )
        )
        return _asked(lambda: _document(answer.data))

    def get(self, plural: str, namespace: str, name: str) -> Object:
        """The object now."""
        return _asked(
            lambda: self._custom.get_namespaced_custom_object(
                GROUP, VERSION, namespace, plural, name, _request_timeout=TIMEOUT
            )
        )

    def every(self, plural: str, kind: str, namespace: str | None, selector: str | None = None) -> list[Object]:
        """The objects of a namespace, or of all, that carry the labels."""
        options: Object = {"limit": PAGE, "_request_timeout": TIMEOUT}
        if selector:
            options["label_selector"] = selector
        found: list[Object] = []
        while True:
            if namespace is None:
                page = _asked(lambda: self._custom.list_cluster_custom_object(GROUP, VERSION, plural, **options))
            else:
                page = _asked(
                    lambda: self._custom.list_namespaced_custom_object(GROUP, VERSION, namespace, plural, **options)
                )
            # Items of a list carry no kind of their own.
            found += [{"apiVersion": API_VERSION, "kind": kind, **item} for item in page["items"]]
            options["_continue"] = page.get("metadata", {}).get("continue")
            if not options["_continue"]:
                return found

    def merge_spec(self, plural: str, namespace: str, name: str, spec: Mapping[str, Any]) -> Object:
        """A JSON merge patch (RFC 7396) on spec."""
        return _asked(
            lambda: self._custom.patch_namespaced_custom_object(
                GROUP,
                VERSION,
                namespace,
                plural,
                name,
                {"spec": dict(spec)},
                _request_timeout=TIMEOUT,
                _content_type="application/merge-patch+json",
            )
        )

    def delete(self, plural: str, namespace: str, name: str, uid: str) -> None:
        """Deletes the object if it is still that one."""
        body = client.V1DeleteOptions(preconditions=client.V1Preconditions(uid=uid))
        _asked(
            lambda: self._custom.delete_namespaced_custom_object(
                GROUP, VERSION, namespace, plural, name, body=body, _request_timeout=TIMEOUT
            )
        )

    def events(self, namespace: str, uid: str) -> list[Object]:
        """The Kubernetes Events about the object."""
        answer = _asked_raw(
            lambda: self._core.list_namespaced_event(
                namespace, field_selector=f"involvedObject.uid={uid}", _preload_content=False, _request_timeout=TIMEOUT
            )
        )
        return cast(list[Object], json.loads(answer.data)["items"])

    def watch(self, plural: str, namespace: str, name: str, version: str, seconds: int) -> Iterator[tuple[str, Object]]:
        """Changes of the object after that version, as (type, object), for about so many seconds.

        Raises WatchExpired when the server no longer knows that version.
        """
        answer = _asked_raw(
            lambda: self._custom.list_namespaced_custom_object(
                GROUP,
                VERSION,
                namespace,
                plural,
                watch=True,
                field_selector=f"metadata.name={name}",
                resource_version=version,
                timeout_seconds=seconds,
                _preload_content=False,
                _request_timeout=(TIMEOUT[0], seconds + WATCH_SLACK),
            )
        )
        try:
            for line in _lines(answer):
                kind, obj = _event(line)
                if kind == "ERROR":
                    _raise_watch_error(obj)
                if kind != "BOOKMARK":
                    yield kind, obj
        finally:
            answer.close()  # not back into the pool: the server may still be sending


def _event(line: bytes) -> tuple[str, Object]:
    """Type and object of a watch event. Raises Unreachable for a line that is none."""
    try:
        event = json.loads(line)
        return event["type"], event["object"]
    except (ValueError, LookupError, TypeError) as error:
        raise Unreachable("the watch was answered by something that is no Kubernetes API server") from error


def _lines(answer: Any) -> Iterator[bytes]:
    """The lines of an answer as they arrive. Raises Unreachable when the connection breaks."""
    rest = b""
    try:
        for chunk in answer.stream(amt=None, decode_content=False):
            *whole, rest = (rest + chunk).split(b"\n")
            yield from (line for line in whole if line.strip())
    except HTTPError as error:
        raise Unreachable(f"the API server broke off: {error}") from error


def _raise_watch_error(status: Mapping[str, Any]) -> None:
    if status.get("code") == 410:
        raise WatchExpired
    raise Unreachable(f"the API server ended the watch: {status.get('message', status.get('reason'))}")


def _asked(request: Callable[[], Any]) -> Object:
    answer = _asked_raw(request)
    if not isinstance(answer, dict):
        raise Unreachable("what answered is no Kubernetes API server: check the kubeconfig's server and the proxy")
    return answer


def _asked_raw(request: Callable[[], Any]) -> Any:
    """The request's answer, with the client's errors told apart by what has to be done about them.

    An answer of 429 means that the request was not looked at, so it is sent again when the server says.
    """
    for _ in range(BUSY_TIMES):
        try:
            return request()
        except ApiException as error:
            if error.status != 429:
                raise error_of(error.status or 0, error.reason or "", error.body) from None  # it carries headers
            told = _status_of(error.body).get("details", {})
        except HTTPError as error:
            raise Unreachable(f"the API server can not be reached: {error}") from error
        time.sleep(min(max(1, int(told.get("retryAfterSeconds") or 1)), LONGEST_BUSY))
    raise Unreachable(f"the API server has been too busy {BUSY_TIMES} times; try again later")


def error_of(status: int, reason: str, body: Any) -> ClientError:
    """What an answer of 300 or more means. `body` is a metav1.Status, unless something else answered."""
    told = _status_of(body)
    message = str(told.get("message") or f"the API server answered {status} {reason}")
    if status == 410 and told.get("reason") in ("Expired", "Gone"):
        return Unreachable(message)
    if status in (401, 403):
        return NotAllowed(message)
    if status == 404:
        if told.get("details", {}).get("name"):
            return NotFound(message)
        return Unreachable(
            f"the API server does not serve this kind of {GROUP}: install this version of Trainyard, or use another "
            "context"
        )
    if untyped := _UNTYPED.search(message):
        return Refused(message, [Problem(untyped["field"], untyped["why"])])
    if status >= 500 or status < 400:
        return Unreachable(message)
    causes = told.get("details", {}).get("causes") or []
    problems = [Problem(cause.get("field"), _plain(cause.get("message", ""))) for cause in causes]
    return Refused(message, problems, conflict=status == 409)


def _plain(message: str) -> str:
    """The words without what stands before those of a rule, which says nothing when the value is a whole object."""
    return message.removeprefix("Invalid value: ").removeprefix('"object": ')


def _document(body: Any) -> Any:
    """The JSON in an answer, or None where something else answered."""
    try:
        return json.loads(body or "{}")
    except ValueError:
        return None


def _status_of(body: Any) -> Mapping[str, Any]:
    """The metav1.Status in an answer, or nothing where a proxy or a missing path answered."""
    found = _document(body)
    return found if isinstance(found, dict) and found.get("kind") == "Status" else {}

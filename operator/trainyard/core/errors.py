"""Every error the operator tells apart, drawn once.

    TrainyardError
    ├── TranslationError      the spec can not be said in the platform's terms; names the field
    ├── IdentityError         no token can be had; names what to mend
    ├── SourceError           the source code can not be had from where it is kept; `waiting`: time may mend it
    └── PlatformError         a platform answered, or did not
        ├── Unreachable       no usable answer (network, time out, 5xx, malformed): try again
        │   └── Throttled     asked to come back later; carries the delay
        ├── Unauthenticated   the platform does not accept the token (401)
        ├── Denied            the principal lacks a right (403)
        ├── Missing           the thing asked for does not exist (404)
        ├── Refused           this request can never succeed as it is (400)
        └── SubmissionDeleted the submission token belongs to a run that somebody deleted

Raised by `identity`, `sources`, `keeping` and `platforms`, read by `controllers`. Messages never carry a token.
"""


class TrainyardError(Exception):
    """Base of all errors that this package raises on purpose. `reason` is a stable CamelCase word."""

    reason = "Error"

    def __init__(self, message: str, *, reason: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        if reason is not None:
            self.reason = reason


class TranslationError(TrainyardError):
    """The spec, with this workspace's mappings, has no meaning on the platform."""

    reason = "InvalidSpec"

    def __init__(self, field: str, message: str, *, reason: str | None = None) -> None:
        super().__init__(f"{field}: {message}", reason=reason)
        self.field = field


class IdentityError(TrainyardError):
    """No token can be had. `waiting` says that time alone may mend it (a new federation policy takes minutes)."""

    reason = "IdentityFailed"

    def __init__(self, message: str, *, reason: str | None = None, waiting: bool = False) -> None:
        super().__init__(message, reason=reason)
        self.waiting = waiting


class SourceError(TrainyardError):
    """The source code of a run can not be had. `waiting` says that time alone may mend it (a host that is down)."""

    reason = "SourceFailed"

    def __init__(self, message: str, *, reason: str | None = None, waiting: bool = False) -> None:
        super().__init__(message, reason=reason)
        self.waiting = waiting


class PlatformError(TrainyardError):
    """A platform answered with an error, or not at all."""

    reason = "PlatformError"


class Unreachable(PlatformError):
    """No usable answer; the request may or may not have had its effect.

    `retry_after` is in seconds, where something is known about when asking again may help.
    """

    reason = "PlatformUnreachable"

    def __init__(self, message: str, *, reason: str | None = None, retry_after: float | None = None) -> None:
        super().__init__(message, reason=reason)
        self.retry_after = retry_after


class Throttled(Unreachable):
    """The platform asks for fewer requests. `retry_after` is in seconds."""

    reason = "PlatformThrottled"
    retry_after: float

    def __init__(self, message: str, *, retry_after: float) -> None:
        super().__init__(message, retry_after=retry_after)


class Unauthenticated(PlatformError):
    """The platform does not accept the token."""

    reason = "Unauthenticated"


class Denied(PlatformError):
    """The principal lacks a right."""

    reason = "PermissionDenied"


class Missing(PlatformError):
    """What was asked for does not exist on the platform."""

    reason = "NotFound"


class Refused(PlatformError):
    """The platform will never accept this request as it is."""

    reason = "RequestRefused"


class SubmissionDeleted(PlatformError):
    """The submission token belongs to a remote run that was deleted; using a new token could pay twice."""

    reason = "RemoteRunDeleted"

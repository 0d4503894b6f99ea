"""Mode `secretRef`: what a vault or a person keeps in a Secret of the namespace that asks, guarded by its age.

Held by `identity.broker`. The Secret is read by its name at each mint and dropped again, so that a rotated one is used
next, also after the platform has refused a token; nothing lists or watches Secrets. All that can be told without asking
anybody is told by `speaker`, before anything is started: opt-in, keys, age, a certificate that has ended.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from trainyard.api.identity import DEFAULT_MAX_AGE, SECRET_REF, Identity, SecretRefIdentity
from trainyard.audit.log import AuditLog
from trainyard.audit.transport import Bounds
from trainyard.core.errors import IdentityError
from trainyard.core.snapshot import Target
from trainyard.core.times import stamp
from trainyard.identity import secret_age
from trainyard.identity.base import SECRET_PREFIX, Caution, SecretData, SecretRef, Secrets, Speaker, TokenSource
from trainyard.identity.cached import utc_now
from trainyard.identity.certificate import certificate_of
from trainyard.identity.client_secret import ClientSecretMint, Kept, KeptToken, PersonalTokenMint
from trainyard.identity.endpoint import TokenEndpoint
from trainyard.identity.entra import EntraToken, Proof, by_certificate, by_secret
from trainyard.identity.hosts import HostPolicy
from trainyard.identity.oauth import OAuthDialect
from trainyard.identity.secret_age import CHANGED_AT, Age
from trainyard.identity.secret_memory import SecretMemory
from trainyard.identity.secret_reading import entry, opted_in, unusable
from trainyard.identity.signing_in import cloud_and_tenant
from trainyard.identity.wire import EXCHANGE_BOUNDS, token_session

CLIENT_ID, CLIENT_SECRET, TOKEN = "client-id", "client-secret", "token"
PERSONAL, CERTIFICATE = "PersonalAccessToken", "EntraCertificate"
# Far beyond any that the platforms make (some 40 to 100 characters), far below what a header may carry.
LONGEST_SECRET = 4096
_CLIENT_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True, slots=True)
class _Opened:
    """A Secret that may be used now: whom it stands for, what it holds, and when that ends."""

    principal: str
    kept: Kept
    ends: Age
    why: str = ""
    pem: bytes = field(default=b"", repr=False)


class SecretMode:
    """A Mode.

    Args:
        secrets: reads Secrets by their names.
        hosts: the allow-list of Databricks.
        log: the audit log.
        now: the clock.
        bounds: limits of each HTTP request.
    """

    def __init__(
        self,
        secrets: Secrets,
        hosts: HostPolicy,
        log: AuditLog,
        now: Callable[[], datetime] = utc_now,
        bounds: Bounds = EXCHANGE_BOUNDS,
    ) -> None:
        self._secrets = secrets
        self._hosts = hosts
        self._log = log
        self._now = now
        self._bounds = bounds
        self._memory = SecretMemory()

    def speaker(self, identity: Identity, namespace: str, platform: str) -> Speaker:
        """Whom the Secret stands for, with what has to be told about it; of a personal access token a stand-in.

        Raises:
            IdentityError: the type is not for the platform or not allowed; the Secret is missing, has not opted in,
                lacks what it needs, or is too old.
        """
        given = _given(identity)
        if platform != "databricks" and not _by_entra(given):
            raise IdentityError(
                f"identity.secretRef.type {given.type} is of Databricks: Azure ML takes EntraClientSecret or "
                "EntraCertificate",
                reason="InvalidSpec",
            )
        secret = SecretRef(namespace, given.name)
        opened = self._opened(given, secret, waiting=True)
        return Speaker(opened.principal, cautions=_cautions(given, secret, opened))

    def source(self, target: Target, namespace: str, scope: str) -> TokenSource:
        """Tokens of Entra for its secrets and certificates; of Databricks for its own and for personal tokens."""
        given = _given(target.identity)
        secret = SecretRef(namespace, given.name)
        facts = {"mode": SECRET_REF, "secret": f"{namespace}/{given.name}"}
        if _by_entra(given):
            cloud, tenant = cloud_and_tenant(target)
            return EntraToken(
                cloud,
                tenant,
                scope,
                target.principal,
                lambda: self._proof(given, secret, target.principal),
                facts,
                log=self._log,
                now=self._now,
                bounds=self._bounds,
            )
        told = {"principal": target.principal, **facts}
        session = token_session(self._log, OAuthDialect(), told, self._bounds)
        if given.type == PERSONAL:
            mint: ClientSecretMint | PersonalTokenMint = PersonalTokenMint(
                target.principal,
                lambda: self._opened(given, secret).kept,
                lambda: self._hosts.check(target.host),
                session,
                self._now,
            )
        else:
            endpoint = TokenEndpoint(target.host, self._hosts, session, self._now)
            mint = ClientSecretMint(
                target.principal,
                lambda: self._of(given, secret, target.principal).kept,
                endpoint,
                session,
                self._now,
            )
        return KeptToken(told, mint, self._now)

    def _proof(self, given: SecretRefIdentity, secret: SecretRef, principal: str) -> Proof:
        opened = self._of(given, secret, principal)
        if given.type == CERTIFICATE:
            return by_certificate(opened.pem, opened.kept.where)
        return by_secret(opened.kept.value, opened.kept.where)

    def _of(self, given: SecretRefIdentity, secret: SecretRef, principal: str) -> _Opened:
        """The Secret, if it still stands for the principal that was pinned."""
        opened = self._opened(given, secret)
        if opened.principal != principal:
            raise IdentityError(
                f"key {CLIENT_ID} of Secret {secret.namespace}/{secret.name} is now {opened.principal}, not "
                f"{principal}, which this attempt is pinned to",
                reason="ClientIdMismatch",
            )
        return opened

    def _opened(self, given: SecretRefIdentity, secret: SecretRef, *, waiting: bool = False) -> _Opened:
        """The Secret as it is now, if it may be used."""
        if given.type == PERSONAL and not given.allow_personal_access_token:
            raise IdentityError(
                "a personal access token belongs to a person and is long-lived: use another type of "
                "identity.secretRef, or say allowPersonalAccessToken: true",
                reason="ModeNotAllowed",
            )
        now = self._now()
        found = opted_in(self._secrets, secret, given.type, waiting=waiting)
        age = self._age(given, secret, found, now)
        at = f"of Secret {secret.namespace}/{secret.name}"
        why = (
            f"its data is from {stamp(age.ends_at - _max_age(given))}, and identity.secretRef.maxAge is {_told(given)}"
        )
        if given.type == PERSONAL:
            kept = Kept(_text(found, secret, TOKEN), f"key {TOKEN} {at}")
            return _Opened(f"{SECRET_PREFIX}{secret.name}", kept, age, why)
        principal = given.client_id or _client_id(found, secret)
        if given.type != CERTIFICATE:
            return _Opened(principal, Kept(_text(found, secret, CLIENT_SECRET), f"key {CLIENT_SECRET} {at}"), age, why)
        certificate = certificate_of(found, secret, now)
        ends = secret_age.until(certificate.ends_at, now)
        if ends.ends_at < age.ends_at:
            age, why = ends, "its certificate ends then"
        return _Opened(principal, Kept("", f"key {certificate.key} {at}"), age, why, certificate.pem)

    def _age(self, given: SecretRefIdentity, secret: SecretRef, found: SecretData, now: datetime) -> Age:
        try:
            recorded = self._memory.first_seen(secret, found.data, found.changed_at)
            changed = secret_age.changed_at(recorded, found.annotations)
        except ValueError:
            raise IdentityError(
                f"annotation {CHANGED_AT} of Secret {secret.namespace}/{secret.name} is no time such as "
                "2026-11-23T12:00:00Z; correct or remove it",
                reason="SecretUnusable",
            ) from None
        age = secret_age.judged(changed, _max_age(given), now)
        if age.state == "TooOld":
            raise IdentityError(
                f"what Secret {secret.namespace}/{secret.name} holds is from {stamp(changed)}, longer ago than "
                f"identity.secretRef.maxAge ({_told(given)}) allows, and is not used. Make a new {_NOUNS[given.type]} "
                "and store it there.",
                reason="SecretTooOld",
            )
        return age


_NOUNS = {
    "DatabricksOAuthSecret": "OAuth secret",
    "EntraClientSecret": "client secret",
    CERTIFICATE: "certificate",
    PERSONAL: "personal access token",
}


def personal(identity: Identity) -> Caution | None:
    """What has to be told of a workspace whose identity is a personal access token, whatever state it is in."""
    given = identity.secret_ref
    if given is None or given.type != PERSONAL:
        return None
    return Caution(
        "PersonalAccessToken",
        reason="PersonalAccessTokenInUse",
        message=f"runs act as the person whose token is in Secret {given.name}, with all that this person may do, for "
        "as long as the token lives; use a service principal by the mode federated, or a DatabricksOAuthSecret",
    )


def _cautions(given: SecretRefIdentity, secret: SecretRef, opened: _Opened) -> tuple[Caution, ...]:
    """The words name moments and no time that is left: they are written whenever they change."""
    if opened.ends.state != "Expiring":
        return ()
    message = (
        f"Secret {secret.name} is not used any more from {stamp(opened.ends.ends_at)} on ({opened.why}). Make a new "
        f"{_NOUNS[given.type]} and store it there before."
    )
    return (Caution("CredentialExpiring", reason="SecretExpiring", message=message),)


def _given(identity: Identity | None) -> SecretRefIdentity:
    given = identity.secret_ref if identity is not None else None
    assert given is not None  # noqa: S101 - the broker picks the mode by it
    return given


def _by_entra(given: SecretRefIdentity) -> bool:
    return given.type.startswith("Entra")


def _told(given: SecretRefIdentity) -> str:
    return given.max_age or DEFAULT_MAX_AGE


def _max_age(given: SecretRefIdentity) -> timedelta:
    return secret_age.max_age_of(_told(given))


def _text(found: SecretData, secret: SecretRef, key: str) -> str:
    """An entry that has to go into a header or form as it is."""
    value = entry(found, secret, key)
    if len(value) > LONGEST_SECRET:
        raise unusable(secret, key, f"is longer than {LONGEST_SECRET} characters")
    if not value.isascii() or not value.isprintable() or " " in value:
        raise unusable(secret, key, "has spaces, line breaks or other characters that no secret has")
    return value


def _client_id(found: SecretData, secret: SecretRef) -> str:
    value = entry(found, secret, CLIENT_ID)
    if not _CLIENT_ID.fullmatch(value):
        raise unusable(secret, CLIENT_ID, "is no application id")
    return value

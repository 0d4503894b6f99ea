"""Reading the one Secret that an identity is kept in: its opt-in, and its entries as text.

Called by the modes that keep something (`identity.oidc`, `identity.secret_ref`), by the Secret's name, whenever a token
is made; nothing is kept. No error names more than the Secret and the key.
"""

from trainyard.core.errors import IdentityError
from trainyard.identity.base import SecretData, SecretRef, Secrets

# By this annotation a Secret opts in; its value is what it holds, so that none is taken for another.
OPT_IN = "trainyard.dev/identity"
# Characters of one entry. A certificate with its chain and key has some thousands.
LONGEST_ENTRY = 65536


def opted_in(secrets: Secrets, secret: SecretRef, kind: str, *, waiting: bool = False) -> SecretData:
    """The Secret now, if it opts in to be used as that kind.

    Raises:
        IdentityError: SecretNotOptedIn, or what `secrets` raises. `waiting`: nothing is under way yet, and an
            annotation may come.
    """
    found = secrets.secret_data(secret)
    if found.annotations.get(OPT_IN) != kind:
        raise IdentityError(
            f"Secret {secret.name} in namespace {secret.namespace} has not opted in; annotate it with {OPT_IN}={kind}",
            reason="SecretNotOptedIn",
            waiting=waiting,
        )
    return found


def entry(found: SecretData, secret: SecretRef, key: str) -> str:
    """An entry as text, without the spaces and newlines around it that come from making Secrets by hand.

    Raises:
        IdentityError: SecretKeyMissing, SecretUnusable.
    """
    value = found.data.get(key, b"").strip()
    if not value:
        had = ", ".join(sorted(found.data)[:20]) or "none"
        raise IdentityError(
            f"Secret {secret.namespace}/{secret.name} has no key {key} with something in it (its keys: {had}); add it",
            reason="SecretKeyMissing",
        )
    if len(value) > LONGEST_ENTRY:
        raise unusable(secret, key, f"is longer than {LONGEST_ENTRY} characters")
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise unusable(secret, key, "is no text (UTF-8)") from None


def unusable(secret: SecretRef, key: str, why: str) -> IdentityError:
    """An entry that can not be what it should be; `why` must not quote it."""
    return IdentityError(
        f"key {key} of Secret {secret.namespace}/{secret.name} {why}; correct it", reason="SecretUnusable"
    )

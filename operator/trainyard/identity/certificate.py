"""A certificate with its private key, as a Secret holds them, looked at before anything is signed with it.

Called by `identity.secret_ref`. What azure-identity needs of it: PEM, an RSA key, the signing certificate first
(azure/identity/_credentials/certificate.py). What Entra would refuse with a number is said here in words.
"""

import re
from dataclasses import dataclass, field
from datetime import datetime

from trainyard.core.errors import IdentityError
from trainyard.core.times import stamp
from trainyard.identity.base import SecretData, SecretRef
from trainyard.identity.secret_reading import entry, unusable

# One entry with both, or the two of a Secret of type kubernetes.io/tls, as cert-manager makes it.
BOTH = "certificate"
TLS_CERTIFICATE, TLS_KEY = "tls.crt", "tls.key"
_KEY = re.compile(r"-----BEGIN ([A-Z ]*PRIVATE KEY)-----.*?-----END \1-----", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Certificate:
    """The certificate that signs, then its private key, in PEM; in which key of the Secret it is, and when it ends."""

    pem: bytes = field(repr=False)
    key: str
    ends_at: datetime


def certificate_of(found: SecretData, secret: SecretRef, now: datetime) -> Certificate:
    """The certificate in the Secret, if it can be used now.

    Raises:
        IdentityError: SecretKeyMissing, SecretUnusable, CertificateKeyMismatch, CertificateExpired or
            CertificateNotYetValid.
    """
    if BOTH in found.data or TLS_CERTIFICATE not in found.data:
        where = key_at = BOTH
        chain = key = entry(found, secret, BOTH)
    else:
        where, key_at = TLS_CERTIFICATE, TLS_KEY
        chain, key = entry(found, secret, where), entry(found, secret, key_at)
    return _checked(chain, where, key, key_at, secret, now)


def _checked(chain: str, where: str, key: str, key_at: str, secret: SecretRef, now: datetime) -> Certificate:
    # Imported here: an operator without certificates needs none of it.
    from cryptography import x509
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
    from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

    block = _KEY.search(key)
    if block is None:
        raise unusable(secret, key_at, "holds no private key in PEM (-----BEGIN PRIVATE KEY-----)")
    if "ENCRYPTED" in block.group(0):
        raise unusable(
            secret, key_at, "holds a private key with a password, which is not supported: store it without one"
        )
    try:
        private = load_pem_private_key(block.group(0).encode(), None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise unusable(secret, key_at, "holds a private key that can not be read") from None
    if not isinstance(private, RSAPrivateKey):
        raise unusable(secret, key_at, "holds a private key of another kind than RSA, which Entra needs")
    try:
        certificates = x509.load_pem_x509_certificates(chain.encode())
        signing = next((each for each in certificates if each.public_key() == private.public_key()), None)
        life = None if signing is None else (signing.not_valid_before_utc, signing.not_valid_after_utc)
    except (ValueError, UnsupportedAlgorithm, x509.InvalidVersion):
        raise unusable(secret, where, "holds no certificate in PEM (-----BEGIN CERTIFICATE-----)") from None
    if signing is None or life is None:
        raise IdentityError(
            f"the private key in key {key_at} of Secret {secret.namespace}/{secret.name} belongs to no certificate in "
            f"key {where}; store the two that were made together",
            reason="CertificateKeyMismatch",
        )
    begins_at, ends_at = life
    told = f"the certificate in key {where} of Secret {secret.namespace}/{secret.name}"
    if now >= ends_at:
        raise IdentityError(
            f"{told} ended at {stamp(ends_at)}; store a new one, and add it to the application (az ad app credential "
            "reset --id CLIENT_ID --cert @certificate.pem --append)",
            reason="CertificateExpired",
        )
    if now < begins_at:
        raise IdentityError(
            f"{told} is not valid before {stamp(begins_at)}; wait, or correct the clock of the operator's machine",
            reason="CertificateNotYetValid",
            waiting=True,
        )
    return Certificate(signing.public_bytes(Encoding.PEM) + block.group(0).encode() + b"\n", where, ends_at)

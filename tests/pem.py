"""Certificates and keys in PEM for tests of identities that are kept in Secrets."""

from datetime import UTC, datetime, timedelta
from functools import cache

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPrivateKeyTypes
from cryptography.x509.oid import NameOID

Key = CertificateIssuerPrivateKeyTypes


@cache
def rsa_key(name: str = "one") -> rsa.RSAPrivateKey:  # another name is another key
    """A key; made once for each name."""
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


@cache
def ec_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def key_pem(key: Key | None = None, password: bytes | None = None) -> str:
    encryption: serialization.KeySerializationEncryption = serialization.NoEncryption()
    if password is not None:
        encryption = serialization.BestAvailableEncryption(password)
    made = key or rsa_key()
    private = made.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)
    return private.decode()


def certificate_pem(
    key: Key | None = None,
    *,
    begins: datetime | None = None,
    ends: datetime | None = None,
    name: str = "trainyard",
) -> str:
    """A self-signed certificate, good from an hour ago for 90 days unless it says otherwise."""
    made, now = key or rsa_key(), datetime.now(UTC)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    built = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(made.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begins or now - timedelta(hours=1))
        .not_valid_after(ends or now + timedelta(days=90))
        .sign(made, hashes.SHA256())
    )
    return built.public_bytes(serialization.Encoding.PEM).decode()

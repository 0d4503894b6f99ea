"""Makes the keys and certificates of one control plane.

Called by `cluster` at every start. The authorities' own keys stay in memory and are gone when this returns, so nobody
can extend the trust later. Two authorities: who may talk to the API server gets no way into etcd.
"""

from __future__ import annotations

import datetime
import ipaddress
import os
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

LIFETIME = datetime.timedelta(days=365)
SKEW = datetime.timedelta(hours=1)  # a virtual machine's clock that jumps back after a resume
SERVER_NAMES = ["localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc"]
SERVER_ADDRESSES = ["127.0.0.1", "10.0.0.1"]  # loopback, and the `kubernetes` service's

PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


@dataclass(frozen=True)
class KeyPair:
    """Paths of a certificate and of its key, both PEM."""

    cert: Path
    key: Path


@dataclass(frozen=True)
class Pki:
    """Where everything lies; private keys have mode 0600."""

    ca: Path
    serving: KeyPair
    admin: KeyPair
    controller_manager: KeyPair
    etcd_ca: Path
    etcd_server: KeyPair
    etcd_client: KeyPair
    service_account_key: Path
    service_account_public: Path


class Authority:
    """A certificate authority that lives as long as this object."""

    def __init__(self, name: str, directory: Path) -> None:
        self.directory = directory
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        certificate = (
            self._builder(self._name, self._key)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_key_usage(sign_certificates=True), critical=True)
            .sign(self._key, hashes.SHA256())
        )
        self.path = directory / f"{name}.crt"
        self.path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))

    def issue(self, name: str, common_name: str, organization: str = "", server: bool = False) -> KeyPair:
        """A certificate for a client; for a server on loopback, and for that server as a client, when `server`."""
        subject = [x509.NameAttribute(NameOID.COMMON_NAME, common_name)]
        if organization:
            subject.append(x509.NameAttribute(NameOID.ORGANIZATION_NAME, organization))
        key = ec.generate_private_key(ec.SECP256R1())
        usages = [ExtendedKeyUsageOID.CLIENT_AUTH] + ([ExtendedKeyUsageOID.SERVER_AUTH] if server else [])
        builder = (
            self._builder(x509.Name(subject), key)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(sign_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        )
        if server:
            names: list[x509.GeneralName] = [x509.DNSName(dns) for dns in SERVER_NAMES]
            names += [x509.IPAddress(ipaddress.ip_address(address)) for address in SERVER_ADDRESSES]
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        pair = KeyPair(self.directory / f"{name}.crt", self.directory / f"{name}.key")
        pair.cert.write_bytes(builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
        _write_key(pair.key, key)
        return pair

    def _builder(self, subject: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
        now = datetime.datetime.now(datetime.UTC)
        authority = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - SKEW)
            .not_valid_after(now + LIFETIME)
            # Python 3.13 verifies with VERIFY_X509_STRICT, which wants both identifiers.
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(authority, critical=False)
        )


def make_pki(directory: Path) -> Pki:
    """Write a fresh set of credentials into `directory`, which is made with mode 0700."""
    directory.mkdir(mode=0o700)
    kube = Authority("ca", directory)
    etcd = Authority("etcd-ca", directory)
    signer = rsa.generate_private_key(public_exponent=65537, key_size=2048)  # RS256, as managed clusters sign
    signer_key, signer_public = directory / "service-account.key", directory / "service-account.pub"
    _write_key(signer_key, signer)
    signer_public.write_bytes(
        signer.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
    return Pki(
        ca=kube.path,
        serving=kube.issue("apiserver", "kube-apiserver", server=True),
        admin=kube.issue("admin", "trainyard-localcluster-admin", organization="system:masters"),
        controller_manager=kube.issue("controller-manager", "system:kube-controller-manager"),
        etcd_ca=etcd.path,
        # etcd's HTTP gateway calls etcd with the server's certificate, so that one is a client's too.
        etcd_server=etcd.issue("etcd-server", "etcd", server=True),
        etcd_client=etcd.issue("etcd-client", "etcd-client"),
        service_account_key=signer_key,
        service_account_public=signer_public,
    )


def _key_usage(sign_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=sign_certificates,
        crl_sign=sign_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _write_key(path: Path, key: PrivateKey) -> None:
    text = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(text)

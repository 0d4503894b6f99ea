"""The sandbox's own certificate authority: made at start, its key never written anywhere.

server.py asks for one context per server. Clients trust `ca_file` (REQUESTS_CA_BUNDLE, SSL_CERT_FILE).
"""

from __future__ import annotations

import ssl
from pathlib import Path

import trustme


class CertificateAuthority:
    """A CA that vouches for the loopback address and for names that resolve nowhere."""

    def __init__(self, ca_file: Path) -> None:
        self._ca = trustme.CA(organization_name="Trainyard sandbox")
        self.ca_file = ca_file
        self._ca.cert_pem.write_to_path(str(ca_file))

    def server_context(self, *names: str) -> ssl.SSLContext:
        """A TLS server context with a certificate for 127.0.0.1, localhost and further host names."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        self._ca.issue_cert("127.0.0.1", "localhost", *names).configure_cert(context)
        return context

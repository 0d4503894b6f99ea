"""Identity providers whose assertions may be exchanged: their discovery documents and signing keys, fetched over https.

databricks/oidc.py and azure/entra.py call `verify`; the command line and the control API say which CA vouches for which
issuer. Only the configured CA is trusted for a configured issuer; an issuer without one must have a publicly trusted
certificate. It must never follow a redirect, nor fetch anything for an issuer that no federation policy names.

Read in: OpenID Connect Discovery 1.0 sections 4.1 and 4.3 (issuer must match exactly), RFC 7517 (JWKS), RFC 7519.
"""

from __future__ import annotations

import asyncio
import json
import ssl
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import jwt
from jwt.types import Options

ALGORITHMS = ("RS256", "ES256")
"""Databricks documentation, "Authenticate access using OAuth token federation": "signed using the RS256 or ES256"."""

KEYS_MAX_AGE_SECONDS = 300.0
"""How long fetched keys are used before they are fetched again; an unknown key id fetches at once."""

MIN_REFETCH_SECONDS = 2.0
"""At most one fetch per issuer in this time because of unknown key ids."""

FETCH_TIMEOUT_SECONDS = 10.0

ISSUER_FAULTS = ("unreachable", "keys-revoked")


class AssertionRefusedError(Exception):
    """The assertion is not acceptable; the message may be shown to the caller and never contains the assertion."""


class IssuerUnreachableError(AssertionRefusedError):
    """The issuer's discovery document or keys cannot be had."""


@dataclass
class _Keys:
    fetched_at: float
    by_id: dict[str, jwt.PyJWK] = field(default_factory=dict)


class IssuerTrust:
    """CA file per issuer URL, and the issuers' keys."""

    def __init__(self) -> None:
        self._ca_files: dict[str, Path] = {}
        self._faults: dict[str, str] = {}
        self._keys: dict[tuple[str, str | None], _Keys] = {}
        self._locks: dict[tuple[str, str | None], asyncio.Lock] = {}

    def trust(self, issuer: str, ca_file: Path) -> None:
        """From now on, only certificates signed by the CAs in `ca_file` (PEM) speak for `issuer`.

        Raises:
            ValueError: the issuer is not an https URL or the file holds no certificate.
        """
        if not issuer.startswith("https://"):
            raise ValueError(f"issuer {issuer!r} is not an https URL")
        try:
            ssl.create_default_context(cafile=str(ca_file))
        except (OSError, ssl.SSLError) as error:
            raise ValueError(f"no CA certificate for {issuer} in {ca_file}: {error}") from error
        self._ca_files[issuer] = ca_file
        self.forget_keys(issuer)

    def break_issuer(self, issuer: str, fault: str | None) -> None:
        """Have the issuer seem to be `unreachable`, or to publish none of its keys any more (`keys-revoked`).

        None is the truth again; either way its keys are fetched again.
        """
        self._faults.pop(issuer, None)
        if fault is not None:
            self._faults[issuer] = fault
        self.forget_keys(issuer)

    def forget_keys(self, issuer: str) -> None:
        """Fetch the issuer's keys again at the next assertion, as the passing of five minutes does."""
        for source in [source for source in self._keys if source[0] == issuer]:
            del self._keys[source]

    def trusted(self) -> dict[str, str]:
        """Configured CA files by issuer."""
        return {issuer: str(path) for issuer, path in self._ca_files.items()}

    async def verify(
        self,
        assertion: str,
        issuer: str,
        audiences: tuple[str, ...],
        now: float,
        *,
        jwks_json: str | None = None,
        jwks_uri: str | None = None,
    ) -> dict[str, Any]:
        """The claims of an assertion, once its signature, times, issuer and audience are verified.

        Its key is one of `jwks_json`, or of the document at `jwks_uri`, or as the issuer's discovery document says.

        Raises:
            AssertionRefusedError: for every reason not to accept it.
        """
        key = await self._key(issuer, _key_id(assertion), jwks_json, jwks_uri)
        options: Options = {
            "require": ["exp", "iat", "iss", "sub", "aud"],
            "verify_exp": False,
            "verify_nbf": False,
            "verify_iat": False,
        }
        try:
            claims: dict[str, Any] = jwt.decode(
                assertion, key, algorithms=list(ALGORITHMS), audience=list(audiences), issuer=issuer, options=options
            )
        except jwt.InvalidAudienceError:
            raise AssertionRefusedError("the token's audience matches no audience of the federation policy") from None
        except jwt.PyJWTError as error:
            raise AssertionRefusedError(f"the token cannot be verified: {error}") from None
        _check_times(claims, now)
        return claims

    async def _key(self, issuer: str, key_id: str, jwks_json: str | None, jwks_uri: str | None) -> jwt.PyJWK:
        known = await self._fetched(issuer, key_id, jwks_uri) if jwks_json is None else parse_jwks(jwks_json)
        if key_id not in known:
            raise AssertionRefusedError(f"the issuer {issuer} has no signing key '{key_id}'")
        return known[key_id]

    async def _fetched(self, issuer: str, key_id: str, jwks_uri: str | None) -> dict[str, jwt.PyJWK]:
        source = issuer, jwks_uri
        lock = self._locks.setdefault(source, asyncio.Lock())
        async with lock:
            keys = self._keys.get(source)
            age = time.monotonic() - keys.fetched_at if keys else float("inf")
            stale = age > KEYS_MAX_AGE_SECONDS
            unknown = keys is None or (key_id not in keys.by_id and age > MIN_REFETCH_SECONDS)
            if keys is None or stale or unknown:
                keys = await self._fetch(issuer, jwks_uri)
                self._keys[source] = keys
        return keys.by_id

    async def _fetch(self, issuer: str, jwks_uri: str | None) -> _Keys:
        fault = self._faults.get(issuer)
        if fault == "unreachable":
            raise IssuerUnreachableError(f"the issuer {issuer} cannot be reached: as the control API says")
        if fault == "keys-revoked":
            return _Keys(time.monotonic())
        ca_file = self._ca_files.get(issuer)
        context = ssl.create_default_context(cafile=str(ca_file) if ca_file else None)
        try:
            async with httpx.AsyncClient(
                verify=context, follow_redirects=False, timeout=FETCH_TIMEOUT_SECONDS, trust_env=False
            ) as client:
                document = await _get_json(client, jwks_uri or await _discovered(client, issuer))
        except httpx.HTTPError as error:
            raise IssuerUnreachableError(
                f"the issuer {issuer} cannot be reached: {type(error).__name__}: {error}"
            ) from error
        return _Keys(time.monotonic(), _parse_keys(document))


def peek(assertion: str) -> dict[str, Any]:
    """The claims of an assertion before any check, to find the policy that would apply.

    Raises:
        AssertionRefusedError: it is not a JWT.
    """
    try:
        claims: dict[str, Any] = jwt.decode(assertion, options={"verify_signature": False})
    except jwt.PyJWTError:
        raise AssertionRefusedError("the subject token is not a JWT") from None
    return claims


def _key_id(assertion: str) -> str:
    try:
        header = jwt.get_unverified_header(assertion)
    except jwt.PyJWTError:
        raise AssertionRefusedError("the subject token is not a JWT") from None
    if header.get("alg") not in ALGORITHMS:
        raise AssertionRefusedError(f"the signature algorithm {header.get('alg')} is not accepted")
    return str(header.get("kid", ""))


def _check_times(claims: dict[str, Any], now: float) -> None:
    # PyJWT reads the machine's clock; the sandbox's own may be set off by the control API.
    for claim in ("exp", "nbf", "iat"):
        value = claims.get(claim)
        if value is not None and (not isinstance(value, int | float) or isinstance(value, bool)):
            raise AssertionRefusedError(f"the token's {claim} is not a number")
    if claims["exp"] <= now:
        raise AssertionRefusedError("the token is expired")
    if max(claims.get("nbf", 0), claims["iat"]) > now + 5:
        raise AssertionRefusedError("the token is not valid yet")


async def _discovered(client: httpx.AsyncClient, issuer: str) -> str:
    """Where the issuer says that its keys are."""
    discovery = await _get_json(client, f"{issuer.rstrip('/')}/.well-known/openid-configuration")
    if discovery.get("issuer") != issuer:
        raise IssuerUnreachableError(f"the discovery document of {issuer} names another issuer")
    jwks_uri = str(discovery.get("jwks_uri", ""))
    if not jwks_uri.startswith("https://"):
        raise IssuerUnreachableError(f"the discovery document of {issuer} has no https jwks_uri")
    return jwks_uri


async def _get_json(client: httpx.AsyncClient, url: str) -> dict[str, Any]:
    response = await client.get(url)
    if response.status_code != httpx.codes.OK:
        raise IssuerUnreachableError(f"GET {url} answered {response.status_code}")
    try:
        document = response.json()
    except ValueError:
        raise IssuerUnreachableError(f"GET {url} did not answer JSON") from None
    if not isinstance(document, dict):
        raise IssuerUnreachableError(f"GET {url} did not answer a JSON object")
    return document


def parse_jwks(text: str) -> dict[str, jwt.PyJWK]:
    """The signing keys of a JWKS document by key id.

    Raises:
        AssertionRefusedError: it is none.
    """
    try:
        document = json.loads(text)
    except ValueError:
        raise AssertionRefusedError("it is not JSON") from None
    if not isinstance(document, dict) or not isinstance(document.get("keys"), list):
        raise AssertionRefusedError("it has no array of keys")
    return _parse_keys(document)


def _parse_keys(document: dict[str, Any]) -> dict[str, jwt.PyJWK]:
    keys: dict[str, jwt.PyJWK] = {}
    for entry in document.get("keys", []):
        if entry.get("use", "sig") != "sig":
            continue
        try:
            keys[str(entry.get("kid", ""))] = jwt.PyJWK(entry)
        except jwt.PyJWTError as error:
            raise AssertionRefusedError(f"the issuer's key '{entry.get('kid')}' is unusable: {error}") from error
    return keys

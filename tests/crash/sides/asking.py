"""Requests of the crash tests to a platform, past the proxy."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

import httpx


def ask(origin: str, ca_file: Path, token: str, method: str, path: str, **request: Any) -> dict[str, Any]:
    """The JSON that the platform answers. `request` is as httpx takes it.

    Raises:
        httpx.HTTPStatusError: it refuses.
    """
    verify = ssl.create_default_context(cafile=str(ca_file))
    with httpx.Client(base_url=origin, verify=verify, timeout=60, trust_env=False) as client:
        answer = client.request(method, path, headers={"Authorization": f"Bearer {token}"}, **request)
    answer.raise_for_status()
    found: dict[str, Any] = answer.json()
    return found


def found(origin: str, ca_file: Path, token: str, method: str, path: str, **request: Any) -> dict[str, Any] | None:
    """The same; None where there is nothing."""
    try:
        return ask(origin, ca_file, token, method, path, **request)
    except httpx.HTTPStatusError as error:
        if error.response.status_code != httpx.codes.NOT_FOUND:
            raise
        return None

"""What a private repository is read with, as a team's Secret holds it. Pure.

Made by the controllers from a Secret that they have just read, handed to `sources.git` for one call. A credential is
never logged, never shown by repr, and never sent to another host than the one that its Secret names.
"""

import base64
import binascii
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from trainyard.core.errors import SourceError
from trainyard.sources.remote import Remote, segments_of, with_port

# Names the one host that may be sent what the Secret holds, and below which path a repository has to be. Without the
# host, whoever may create a run could point it at a host of theirs and be sent the team's password; without the path,
# at any repository that the password opens, and have its files printed.
GIT_HOST = "trainyard.dev/git-host"
SSH_AUTH = "kubernetes.io/ssh-auth"
BASIC_AUTH = "kubernetes.io/basic-auth"
_PLACE = re.compile(r"(?P<host>[A-Za-z0-9.-]+)(:(?P<port>[0-9]{1,5}))?(/(?P<path>\S+))?")


@dataclass(frozen=True, slots=True)
class GitCredential:
    """One host's credential: username and password for https, private_key and known_hosts for ssh.

    `below` are the names that a repository's path begins with; empty is any repository of the host.
    """

    kind: Literal["ssh", "https"]
    host: str
    username: str = field(default="", repr=False)
    password: str = field(default="", repr=False)
    private_key: str = field(default="", repr=False)
    known_hosts: str = field(default="", repr=False)
    below: tuple[str, ...] = ()


def credential_of(secret: Mapping[str, Any]) -> GitCredential:
    """The credential in a Kubernetes Secret of type kubernetes.io/ssh-auth or kubernetes.io/basic-auth.

    Raises:
        SourceError: GitSecretInvalid; says what the Secret lacks, never what it holds.
    """
    metadata = secret.get("metadata") or {}
    name = f"{metadata.get('namespace', '')}/{metadata.get('name', '')}"
    host, port, below = _place(name, str((metadata.get("annotations") or {}).get(GIT_HOST, "")).strip())
    if secret.get("type") == SSH_AUTH:
        return GitCredential(
            kind="ssh",
            host=with_port(host, port, "ssh"),
            below=below,
            private_key=_text(secret, name, "ssh-privatekey"),
            known_hosts=_text(
                secret, name, "known_hosts", f"(what ssh-keyscan {host} prints, compared with the forge's page)"
            ),
        )
    if secret.get("type") == BASIC_AUTH:
        return GitCredential(
            kind="https",
            host=with_port(host, port, "https"),
            below=below,
            username=_text(secret, name, "username"),
            password=_text(secret, name, "password", "(an access token that may read the repository)"),
        )
    raise _invalid(name, f"is of another type than {SSH_AUTH} and {BASIC_AUTH}")


def checked_credential(credential: GitCredential | None, remote: Remote) -> GitCredential | None:
    """The credential, if it belongs to that repository's host and transport.

    Raises:
        SourceError: GitCredentialMismatch, or GitAuthFailed where one is needed and none is there.
    """
    if credential is None:
        if remote.scheme == "ssh":
            raise SourceError(
                f"git.url: {remote.host} is asked over ssh, which needs a key: name a Secret of type {SSH_AUTH} in "
                "git.secretRef, or use the https URL of a public repository.",
                reason="GitAuthFailed",
            )
        return None
    if credential.kind != remote.scheme:
        wanted = BASIC_AUTH if remote.scheme == "https" else SSH_AUTH
        raise SourceError(
            f"git.secretRef: the URL is asked over {remote.scheme}, the Secret is for {credential.kind}: use a Secret "
            f"of type {wanted}, or the repository's {credential.kind} URL.",
            reason="GitCredentialMismatch",
        )
    if credential.host != remote.host:
        raise SourceError(
            f"git.secretRef: the Secret may be sent to {credential.host} only (its annotation {GIT_HOST}), and the URL "
            f"is on {remote.host}: correct the URL or name another Secret.",
            reason="GitCredentialMismatch",
        )
    if credential.below and not _is_below(credential.below, remote.path):
        place = "/".join((credential.host, *credential.below))
        raise SourceError(
            f"git.secretRef: the Secret may be used for {place} and what is below it only (its annotation {GIT_HOST}; "
            f"capitals count), and the URL's path is {remote.path}: correct the URL or name another Secret.",
            reason="GitCredentialMismatch",
        )
    return credential


def _place(name: str, told: str) -> tuple[str, str | None, tuple[str, ...]]:
    """Host, port and path of the annotation."""
    how = f"annotate it with {GIT_HOST}=HOST/PATH, like github.com/acme or github.com/acme/churn"
    if not told:
        raise _invalid(name, f"does not say where it may be sent: {how}")
    match = _PLACE.fullmatch(told)
    below = () if match is None or match["path"] is None else segments_of(match["path"])
    if match is None or below is None:
        raise _invalid(name, f"has an annotation {GIT_HOST} that can not be read: {how}")
    return match["host"].lower(), match["port"], below


def _is_below(place: tuple[str, ...], path: str) -> bool:
    """Whether a repository's path is that place or leads through it, by whole names."""
    names = segments_of(path)
    return names is not None and names[: len(place)] == place


def _text(secret: Mapping[str, Any], name: str, key: str, hint: str = "") -> str:
    value = (secret.get("data") or {}).get(key)
    if not value:
        raise _invalid(name, f"lacks the key {key} {hint}".rstrip())
    try:
        text = base64.b64decode(value, validate=True).decode()
    except (binascii.Error, ValueError):
        raise _invalid(name, f"holds something else than text under {key}") from None
    # A line end of the editor that wrote the Secret is not part of a password; a key file has to end with one.
    text = text.strip("\r\n")
    if not text or "\0" in text:
        raise _invalid(name, f"holds nothing usable under {key}")
    if key in ("username", "password") and any(ord(character) < 32 for character in text):
        raise _invalid(name, f"holds more than one line under {key}")
    return text


def _invalid(name: str, what: str) -> SourceError:
    return SourceError(f"git.secretRef: Secret {name} {what}.", reason="GitSecretInvalid")

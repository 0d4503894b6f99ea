"""The caller's own credential for a workspace of Databricks, by the SDK's unified authentication. Used by score.py.

The SDK is imported here, when rows are scored. A credential is used only for the host that it was set up for: the SDK
would send DATABRICKS_TOKEN to whichever host it is given. So DATABRICKS_HOST, or a profile of ~/.databrickscfg, has to
name the workspace (read in: databricks-sdk config.py, Config._load_from_env and _known_file_config_loader).
"""

import configparser
import os
import shlex
from collections.abc import Mapping
from pathlib import Path

from trainyard.client.errors import NotAllowed, Unreachable
from trainyard.client.scoring.place import Place
from trainyard.client.scoring.sending import send
from trainyard.identity.hosts import origin_of

# Settings of the environment that are a credential, or name one (databricks-sdk config.py, `auth=`).
_CREDENTIALS = (
    "DATABRICKS_TOKEN",
    "DATABRICKS_CLIENT_ID",
    "DATABRICKS_USERNAME",
    "ARM_CLIENT_ID",
    "GOOGLE_CREDENTIALS",
)
_ME_SECONDS = 10.0
SECONDS = 30


def credential(place: Place, environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Headers that prove the caller to the workspace. Raises NotAllowed where there is no credential for it."""
    profile = profile_for(place.origin, environment)
    from databricks.sdk.config import Config

    try:
        config = Config(
            host=place.origin,
            profile=profile,
            http_timeout_seconds=SECONDS,
            retry_timeout_seconds=SECONDS,
        )
        return dict(config.authenticate())
    except ValueError as error:
        raise NotAllowed(
            f"there is no credential of yours for {place.origin}: {_first_line(error)}; {sign_in(place.origin)}"
        ) from error
    except OSError as error:  # requests' and the SDK's own errors are among them
        raise Unreachable(f"no token for {place.origin}: {_first_line(error)}; {sign_in(place.origin)}") from error


def profile_for(origin: str, environment: Mapping[str, str]) -> str | None:
    """The profile to use, or None where the environment itself names the host. Raises NotAllowed where nothing does."""
    host, chosen = environment.get("DATABRICKS_HOST"), environment.get("DATABRICKS_CONFIG_PROFILE")
    if host and _origin(host) != origin:
        raise NotAllowed(f"DATABRICKS_HOST is {host}, and the endpoint is at {origin}: {sign_in(origin)}")
    given = next((name for name in _CREDENTIALS if environment.get(name)), None)
    if given and not host:
        raise NotAllowed(
            f"{given} is set, and nothing says for which host: set DATABRICKS_HOST={origin} if it is for that one"
        )
    if host and not chosen:
        return None
    profiles = _profiles(environment)
    if chosen and profiles.get(chosen) != origin:
        raise NotAllowed(
            f"DATABRICKS_CONFIG_PROFILE is {chosen}, which is for {profiles.get(chosen) or 'no host'}, and the "
            f"endpoint is at {origin}: {sign_in(origin)}"
        )
    if chosen:
        return chosen
    found = next((name for name, its in profiles.items() if its == origin), None)
    if found is None:
        raise NotAllowed(f"no profile of ~/.databrickscfg is for {origin}: {sign_in(origin)}")
    return found


def sign_in(origin: str) -> str:
    """What a person does to get a credential for that host."""
    return f"sign in with: databricks auth login --host {shlex.quote(origin)}"


def who(place: Place, headers: Mapping[str, str]) -> dict[str, str] | None:
    """The caller as an entry of spec.permissions names it; None where the workspace does not say.

    SCIM: "Get current user information"; the user name of a service principal is its application id.
    """
    try:
        answer = send("GET", f"{place.origin}/api/2.0/preview/scim/v2/Me", headers, _ME_SECONDS)
    except Unreachable:
        return None
    found = answer.json() if answer.status == 200 else None
    name = found.get("userName") if isinstance(found, dict) else None
    if not isinstance(name, str) or not name:
        return None
    return {"user": name} if "@" in name else {"servicePrincipal": name}


def _profiles(environment: Mapping[str, str]) -> dict[str, str | None]:
    """The origin that each profile is for, DEFAULT first as it stands first."""
    path = Path(environment.get("DATABRICKS_CONFIG_FILE") or "~/.databrickscfg").expanduser()
    read = configparser.ConfigParser(default_section="", interpolation=None)
    try:
        read.read(path, encoding="utf-8")
    except (OSError, UnicodeDecodeError, configparser.Error) as error:
        raise NotAllowed(f"{path} can not be read: {_first_line(error)}") from error
    return {name: _origin(read[name].get("host", "")) for name in read.sections() if name != "__settings__"}


def _origin(host: str) -> str | None:
    """A host as people write it: with or without https://, with a slash or a query after it."""
    text = host.strip()
    if "://" not in text:
        text = f"https://{text}"
    return origin_of(text)


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]

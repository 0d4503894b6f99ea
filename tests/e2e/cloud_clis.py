"""`az` and `databricks` for tests: what the printed commands do, done in the sandbox.

Installed by `install` as two little executables, which read and change the sandbox through its control API and print
what the real ones document (reference pages of "az ad app federated-credential", "az identity", "az role assignment",
"az ml compute", and of the Databricks CLI's command groups "account service-principals", "account
service-principal-federation-policy" and "account federation-policy"). They take the flags that are used, and no others.
"""

import argparse
import json
import shlex
import sys
import zlib
from pathlib import Path
from typing import Any

from trainyard_sandbox.client import SandboxControl

ROOT = Path(__file__).resolve().parents[2]


def install(directory: Path, sandbox_json: Path) -> None:
    """The two executables, in that directory."""
    directory.mkdir(exist_ok=True)
    for name in ("az", "databricks"):
        program = directory / name
        words = [sys.executable, "-m", "tests.e2e.cloud_clis", str(sandbox_json), name]
        program.write_text(f'#!/bin/sh\ncd {shlex.quote(str(ROOT))} && exec {shlex.join(words)} "$@"\n')
        program.chmod(0o755)


def number_of(application_id: str) -> str:
    """The number that an account gives to a service principal."""
    return str(zlib.crc32(application_id.encode()))


def databricks(control: SandboxControl, words: list[str]) -> Any:
    """Groups of `databricks account`."""
    group, verb, rest = words[1], words[2], words[3:]
    parser = argparse.ArgumentParser()
    parser.add_argument("positional", nargs="*")
    parser.add_argument("--filter")
    parser.add_argument("--json")
    parser.add_argument("-o", dest="output")
    given = parser.parse_args(rest)
    principals = {number_of(row["application_id"]): row["application_id"] for row in control.call("GET", "/principals")}
    if (words[0], group, verb) == ("account", "service-principals", "list"):
        wanted = given.filter.removeprefix('applicationId eq "').removesuffix('"')
        return [{"id": n, "applicationId": app} for n, app in principals.items() if app == wanted]
    if group == "service-principal-secrets":
        return {"secret": control.add_oauth_secret(principals[given.positional[0]]).value}
    of_account = group == "federation-policy"
    whose = None if of_account else principals[given.positional[0]]
    if verb == "list":
        rows = [row for row in control.call("GET", "/policies") if row["application_id"] == whose]
        keys = ("issuer", "audiences", "subject", "subject_claim")
        return [{"uid": row["policy_id"], "oidc_policy": {key: row[key] for key in keys}} for row in rows]
    policy = json.loads(given.json)["oidc_policy"]
    subject_claim = policy.get("subject_claim", "sub")
    control.add_policy(whose, policy["issuer"], policy.get("subject"), policy["audiences"], subject_claim)
    return policy


def az(control: SandboxControl, words: list[str]) -> Any:
    """Groups of `az`."""
    parser = argparse.ArgumentParser()
    for flag in ("id", "parameters", "assignee", "role", "scope", "query", "name", "type", "size", "output"):
        parser.add_argument(f"--{flag}")
    parser.add_argument("--append", action="store_true")
    for flag in ("min-instances", "max-instances", "resource-group", "workspace-name"):
        parser.add_argument(f"--{flag}")
    parser.add_argument("-o", dest="output")
    flags = next((n for n, word in enumerate(words) if word.startswith("-")), len(words))
    group, given = " ".join(words[:flags]), parser.parse_args(words[flags:])
    if group == "ad app federated-credential list":
        (found,) = [row for row in control.applications() if row["client_id"] == given.id]
        return found["federated_credentials"]
    if group == "ad app federated-credential create":
        credential = json.loads(given.parameters)
        control.add_federated_credential(given.id, credential["issuer"], credential["subject"], credential["audiences"])
        return credential
    if group == "ad app credential reset":
        print(control.add_client_secret(given.id))
        raise SystemExit
    if group == "role assignment create":
        control.assign_role(given.assignee, given.role, given.scope)
        return {}
    if group == "ml compute create":
        control.add_azure_compute(given.name)
        return {}
    raise SystemExit(f"az {group} is not known here")


def main() -> None:
    """One command."""
    sandbox_json, name, *words = sys.argv[1:]
    with SandboxControl(Path(sandbox_json)) as control:
        print(json.dumps({"az": az, "databricks": databricks}[name](control, words)))


if __name__ == "__main__":
    main()

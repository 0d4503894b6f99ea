"""The commands that mend what the doctor finds, with every value filled in and quoted for a shell. Pure.

Flags are those of the reference pages of kubectl (create role, create rolebinding, create clusterrolebinding,
annotate, patch), of the Azure CLI (az ad app federated-credential, az identity federated-credential, az ad sp, az role
assignment, az ml compute) and of the Databricks CLI (account service-principal-federation-policy, account
federation-policy, account service-principals, account workspace-assignment). A value that nobody here can know is
looked up by the command itself.
"""

import json
import re
import shlex
from collections.abc import Callable, Mapping
from typing import Any

from trainyard.client.doctor.cluster import Right
from trainyard.client.doctor.results import Remedy
from trainyard.identity.assertion import Assertion
from trainyard.identity.base import SecretRef, ServiceAccountRef
from trainyard.platforms.azureml import remedies as azure

CREDENTIAL = "trainyard"
# Statements and commands that the checks before a run write into their sentences (platforms.databricks.remedies).
_WRITTEN = re.compile(
    r"(GRANT .+? TO `[^`]+`"
    r"|databricks permissions update \S+ \S+ --json '[^']+'"
    r"|databricks secrets (?:put-acl|put-secret|create-scope) [^.;]+?(?=$|[.;](?:\s|$)))"
)
# What a shell reads in double quotes as something else than itself.
_MEANS_MORE = re.compile(r"[\"$`\\!\n]")
# Where a sentence of the operator's begins to say commands, which it has no other place for.
_COMMANDS = re.compile(
    r"\s+(?:For (?:an application|a managed identity): )?"
    r"(?:az (?:ad|identity|ml|role) |databricks (?:account|permissions|secrets) |kubectl (?:annotate|create|patch) )"
)
_IN_NAME = re.compile(r"[^a-z0-9-]+")


def command(*words: str) -> str:
    """The words as a shell reads them, whatever is in them."""
    return " ".join(quoted(word) for word in words)


def quoted(text: str) -> str:
    """One word for a shell, in double quotes where these are enough: what Azure's queries look like in its pages."""
    return f'"{text}"' if "'" in text and not _MEANS_MORE.search(text) else shlex.quote(text)


def permit(right: Right, user: str) -> Remedy:
    """Gives somebody a right in the API server."""
    name = f"trainyard-{_IN_NAME.sub('-', right.resource)}-{_IN_NAME.sub('-', right.name)}"[:60].strip("-")
    resource = f"{right.resource}.{right.group}" if right.group else right.resource
    what = [f"--verb={right.verb}", f"--resource={resource}", f"--resource-name={right.name}"]
    if not right.namespace:
        role = command("kubectl", "create", "clusterrole", name, *what)
        binding = command("kubectl", "create", "clusterrolebinding", name, f"--clusterrole={name}", _subject(user))
    else:
        inside = ["-n", right.namespace]
        role = command("kubectl", "create", "role", name, *inside, *what)
        binding = command("kubectl", "create", "rolebinding", name, *inside, f"--role={name}", _subject(user))
    return Remedy(f"let {user} {right}", f"{role} && {binding}")


def _subject(user: str) -> str:
    parts = user.split(":")
    if len(parts) == 4 and user.startswith("system:serviceaccount:"):
        return f"--serviceaccount={parts[2]}:{parts[3]}"
    return f"--user={user}"


def in_operator(operator: ServiceAccountRef, arguments: list[str]) -> Remedy:
    """The same command where the operator's own rights, flags and identities are."""
    return Remedy(
        "run it as the operator, in its pod",
        command("kubectl", "exec", "-n", operator.namespace, f"deploy/{operator.name}", "--", "trainyard", *arguments),
    )


def annotate(account: ServiceAccountRef, annotation: str, value: str, *, over: bool = False) -> Remedy:
    """Has a ServiceAccount opt in."""
    words = ["kubectl", "annotate", "serviceaccount", account.name, "-n", account.namespace, f"{annotation}={value}"]
    return Remedy("name the principal that trusts it", command(*words, *(["--overwrite"] if over else [])))


def annotate_secret(secret: SecretRef, annotation: str, value: str) -> Remedy:
    """Has a Secret opt in."""
    words = ["kubectl", "annotate", "secret", secret.name, "-n", secret.namespace, f"{annotation}={value}"]
    return Remedy("say what the Secret holds", command(*words, "--overwrite"))


def new_secret(secret: SecretRef, kind: str, client_id: str) -> Remedy:
    """Makes a new secret of the principal and keeps it in the Secret; it is shown to nobody on the way."""
    make = NEW_SECRETS[kind](client_id)
    name, space = ["generic", secret.name], ["-n", secret.namespace]
    files = [f"--from-literal=client-id={client_id}", "--from-file=client-secret=/dev/stdin"]
    written = ["--dry-run=client", "-o", "json"]
    pipe = (
        make,
        command("kubectl", "create", "secret", *name, *space, *files, *written),
        command("kubectl", "annotate", "--local", "-f", "-", "-o", "json", f"trainyard.dev/identity={kind}"),
        "kubectl apply -f -",
    )
    return Remedy("store a new one; where a vault keeps the Secret, store it there instead", " | ".join(pipe))


def _databricks_secret(client_id: str) -> str:
    create = f'databricks account service-principal-secrets create "$({principal_id(client_id)})" -o json'
    return f'{create} | python3 -c \'import json, sys; print(json.load(sys.stdin)["secret"], end="")\''


def _entra_secret(client_id: str) -> str:
    reset = [
        "az",
        "ad",
        "app",
        "credential",
        "reset",
        "--id",
        client_id,
        "--append",
        "--query",
        "password",
        "-o",
        "tsv",
    ]
    return f"{command(*reset)} | tr -d '\\n'"


# Types of a Secret for which a command makes a new one.
NEW_SECRETS: Mapping[str, Callable[[str], str]] = {
    "DatabricksOAuthSecret": _databricks_secret,
    "EntraClientSecret": _entra_secret,
}


def create_account(account: ServiceAccountRef) -> Remedy:
    """Makes a ServiceAccount."""
    return Remedy("create it", command("kubectl", "create", "serviceaccount", account.name, "-n", account.namespace))


def allow_namespace(workspace: str, namespace: str, *, first: bool) -> Remedy:
    """Has a ClusterMLWorkspace allow a namespace."""
    patch: dict[str, Any] = {"op": "add", "path": "/spec/allowedNamespaces/-", "value": namespace}
    if first:
        patch = {"op": "add", "path": "/spec/allowedNamespaces", "value": [namespace]}
    words = ["kubectl", "patch", "clustermlworkspace", workspace, "--type=json", "-p", _json([patch])]
    return Remedy("have its administrator allow the namespace", command(*words))


def publish_issuer() -> Remedy:
    """Has the API server show its issuer's documents to everybody, as a verifier outside needs them."""
    name = "system:service-account-issuer-discovery"
    return Remedy(
        "let everybody read the issuer's discovery document and keys (public keys only)",
        command(
            *("kubectl", "create", "clusterrolebinding", "trainyard-issuer-discovery", f"--clusterrole={name}"),
            *("--group=system:unauthenticated", "--group=system:authenticated"),
        ),
    )


def policy(assertion: Assertion, client_id: str, *, of_account: bool, known_id: str = "") -> Remedy:
    """The federation policy of Databricks that accepts the assertion.

    Args:
        client_id: application id of the service principal.
        of_account: a policy of the account rather than of the service principal.
        known_id: the service principal's own number, where it is known; else the command looks it up.
    """
    trusted: dict[str, Any] = {"issuer": assertion.issuer, "audiences": [assertion.audience]}
    if of_account:
        body = _json({"oidc_policy": {**trusted, "subject_claim": "sub"}})
        what = "as an account admin, add a federation policy of the account"
        return Remedy(what, command("databricks", "account", "federation-policy", "create", "--json", body))
    body = _json({"oidc_policy": {**trusted, "subject": assertion.subject}})
    who = quoted(known_id) if known_id else f'"$({principal_id(client_id)})"'
    create = "databricks account service-principal-federation-policy create"
    return Remedy(
        "as an account admin, add a federation policy to the service principal",
        f"{create} {who} --json {quoted(body)}",
    )


def principal_id(client_id: str) -> str:
    """Prints the number of a service principal in the account."""
    listed = command(*list_principals(client_id))
    return f"{listed} | python3 -c 'import json, sys; print(json.load(sys.stdin)[0][\"id\"])'"


def list_principals(client_id: str) -> list[str]:
    """Lists the service principals of that application id."""
    wanted = f'applicationId eq "{client_id}"'
    return ["databricks", "account", "service-principals", "list", "--filter", wanted, "-o", "json"]


LIST_ACCOUNT_POLICIES = ["databricks", "account", "federation-policy", "list", "-o", "json"]


def list_policies(number: str) -> list[str]:
    """Lists the federation policies of a service principal."""
    return ["databricks", "account", "service-principal-federation-policy", "list", number, "-o", "json"]


def list_policies_by_hand(client_id: str) -> Remedy:
    """The same, for who knows its application id only."""
    return Remedy(
        "as an account admin, list them",
        f'databricks account service-principal-federation-policy list "$({principal_id(client_id)})" -o json',
    )


def list_credentials(client_id: str) -> list[str]:
    """Lists the federated credentials of an application."""
    return ["az", "ad", "app", "federated-credential", "list", "--id", client_id, "-o", "json"]


def list_identities(client_id: str) -> list[str]:
    """Lists the managed identity of that client id, if there is one."""
    return ["az", "identity", "list", "--query", _of_client(client_id), "-o", "json"]


def _of_client(client_id: str) -> str:
    """A query (JMESPath) for the identities of that client id; a quote in it ends no string."""
    return "[?clientId=='" + client_id.replace("\\", "\\\\").replace("'", "\\'") + "']"


def list_identity_credentials(name: str, group: str) -> list[str]:
    """Lists the federated credentials of a managed identity."""
    words = ["az", "identity", "federated-credential", "list", "--identity-name", name, "--resource-group", group]
    return [*words, "-o", "json"]


def assign_workspace(client_id: str, workspace_id: str) -> Remedy:
    """Adds a service principal to a Databricks workspace."""
    number = quoted(workspace_id) if workspace_id else "WORKSPACE_ID"
    body = quoted(_json({"permissions": ["USER"]}))
    update = f"databricks account workspace-assignment update {number}"
    return Remedy(
        "as an account admin, add the service principal to the workspace",
        f'{update} "$({principal_id(client_id)})" --json {body}',
    )


def credentials(assertion: Assertion, client_id: str) -> tuple[Remedy, Remedy]:
    """The federated credential at Entra that accepts the assertion: of an application, or of a managed identity."""
    parameters = {
        "name": CREDENTIAL,
        "issuer": assertion.issuer,
        "subject": assertion.subject,
        "audiences": [assertion.audience],
    }
    application = ["az", "ad", "app", "federated-credential", "create", "--id", client_id]
    name, group = (
        f'"$({command("az", "identity", "list", "--query", f"{_of_client(client_id)}.{field} | [0]", "-o", "tsv")})"'
        for field in ("name", "resourceGroup")
    )
    rest = command(*("--issuer", assertion.issuer, "--subject", assertion.subject, "--audiences", assertion.audience))
    return (
        Remedy(
            "if it is an application, add a federated credential",
            command(*application, "--parameters", _json(parameters)),
        ),
        Remedy(
            "if it is a managed identity, add a federated credential",
            f"az identity federated-credential create --name {CREDENTIAL} --identity-name {name} "
            f"--resource-group {group} {rest}",
        ),
    )


def create_service_principal(client_id: str) -> Remedy:
    """Adds an application to the tenant."""
    return Remedy("add the application to the tenant", command("az", "ad", "sp", "create", "--id", client_id))


def assign_role(role: str, holder: str, scope: str) -> Remedy:
    """Gives somebody a role in Azure."""
    words = ["az", "role", "assignment", "create", "--assignee", holder, "--role", role, "--scope", scope]
    return Remedy(f"assign the role {role}; it takes some minutes to be known", command(*words))


def see_region(holder: str, subscription: str) -> Remedy:
    """Lets somebody see a region's sizes and quotas, which are of the subscription."""
    given = assign_role("Reader", holder, f"/subscriptions/{subscription}")
    return Remedy("let it see the region's sizes and quotas (not needed to run)", given.command)


def role_for(action: str, holder: str, scope: str) -> Remedy:
    """Gives somebody the smallest built-in role that permits an action of Azure ML."""
    return assign_role(azure.role_for(action), holder, scope)


def create_compute(name: str, size: str, machines: int, group: str, workspace: str) -> Remedy:
    """Makes a cluster of Azure ML."""
    words = ["az", "ml", "compute", "create", "--name", name, "--type", "AmlCompute", "--size", size]
    words += ["--min-instances", "0", "--max-instances", str(machines)]
    words += ["--resource-group", group, "--workspace-name", workspace]
    return Remedy(f"create it, of {size} or another size, or correct the compute class", command(*words))


def written(message: str) -> Remedy:
    """The statement or command in the sentence of a check, or else the sentence."""
    found = _WRITTEN.search(message)
    if found is None:
        return Remedy(message)
    what = "run in a notebook or SQL editor" if found[1].startswith("GRANT") else "run as whoever manages it"
    return Remedy(what, found[1])


def without_commands(message: str) -> str:
    """A sentence of the operator's without the commands at its end, which are told apart."""
    return _COMMANDS.split(message, maxsplit=1)[0]


def _json(value: Mapping[str, Any] | list[Any]) -> str:
    return json.dumps(value, separators=(",", ":"))

"""What the CRDs say of identities: the modes that they accept, and the mistakes that they refuse, as in crd_cases.

Read by test_crds.py and crd_patterns.py only.
"""

from tests.controlplane.crd_cases import Case
from tests.controlplane.crd_specs import AZURE_TARGET, WORKSPACE, Object

ENTRA: Object = {"tenantId": "contoso.onmicrosoft.com", "cloud": "AzureUSGovernment"}
CLIENT = "11111111-2222-3333-4444-555555555555"
OIDC: Object = {
    "issuer": "https://example.okta.com/oauth2/default",
    "clientId": "0oa1",
    "secretName": "okta",
    "authentication": "PrivateKeyJwt",
    "keyId": "first",
    "scope": "databricks",
    "audience": "trainyard",
    "principal": CLIENT,
}
OAUTH: Object = {"name": "databricks", "type": "DatabricksOAuthSecret", "clientId": CLIENT, "maxAge": "90d"}

_SIMPLE_ON_DATABRICKS: tuple[Object, ...] = (
    {"federated": {"serviceAccountName": "trainer", "policy": "ServicePrincipal"}},
    {"federated": {"serviceAccountName": "trainer", "policy": "Account"}},
    {"federated": {"serviceAccountName": "trainer", "entra": ENTRA}},
    {"oidc": OIDC | {"policy": "Account"}},
    {"oidc": OIDC | {"entra": ENTRA, "authentication": "ClientSecretBasic"}},
    {"secretRef": OAUTH},
    {"secretRef": {"name": "entra", "type": "EntraClientSecret", "entra": ENTRA}},
    {"secretRef": {"name": "entra", "type": "EntraCertificate", "clientId": CLIENT, "entra": ENTRA}},
    {"secretRef": {"name": "pat", "type": "PersonalAccessToken", "allowPersonalAccessToken": True}},
)
_SIMPLE_ON_AZURE: tuple[Object, ...] = (
    {"federated": {"serviceAccountName": "trainer"}},
    {"oidc": OIDC},
    {"secretRef": {"name": "entra", "type": "EntraClientSecret"}},
    {"secretRef": {"name": "entra", "type": "EntraCertificate", "maxAge": "12h"}},
)
_LENT_ON_DATABRICKS: tuple[Object, ...] = (
    {"azureWorkloadIdentity": {"entra": ENTRA}},
    {"azureWorkloadIdentity": {"clientId": CLIENT, "entra": ENTRA}},
    {"managedIdentity": {"entra": ENTRA}},
    {"managedIdentity": {"clientId": CLIENT, "entra": {"tenantId": "contoso.onmicrosoft.com"}}},
)
_LENT_ON_AZURE: tuple[Object, ...] = (
    {"azureWorkloadIdentity": {}},
    {"azureWorkloadIdentity": {"clientId": CLIENT}},
    {"managedIdentity": {}},
    {"managedIdentity": {"clientId": CLIENT}},
)


def databricks(identity: Object) -> Object:
    return WORKSPACE | {"identity": identity}


def azure(identity: Object) -> Object:
    return {"azureML": AZURE_TARGET, "identity": identity}


# Workspaces of a namespace, which a ClusterMLWorkspace may be as well; and those that only an administrator makes.
OWN = [*map(databricks, _SIMPLE_ON_DATABRICKS), *map(azure, _SIMPLE_ON_AZURE)]
LENT = [
    spec | {"allowedNamespaces": ["team-a"]}
    for spec in (*map(databricks, _LENT_ON_DATABRICKS), *map(azure, _LENT_ON_AZURE))
]
IDENTITIES_ACCEPTED = [
    *(("MLWorkspace", spec) for spec in OWN),
    *(("ClusterMLWorkspace", spec | {"allowedNamespaces": ["team-a"]}) for spec in OWN),
    *(("ClusterMLWorkspace", spec) for spec in LENT),
]

ONE_MODE = "identity needs exactly one of federated, azureWorkloadIdentity, managedIdentity, oidc, secretRef"
ONE_WAY = "policy is of Databricks' own token exchange, and entra goes another way: remove one of them"
ISSUER = "issuer must be an https URL without a query or user"
NO_PAT = (
    "a personal access token belongs to a person and is long-lived: use another type, or say "
    "allowPersonalAccessToken: true"
)
NO_CLIENT = "a personal access token is its owner's, whom the workspace tells: remove clientId"
NO_ENTRA_ON_AZURE = "identity.*.entra is for Azure Databricks; Azure ML signs in with azureML.tenantId: remove it"
NO_POLICY_ON_AZURE = "identity.*.policy is of Databricks' token exchange: remove it"
OF_DATABRICKS = "identity.secretRef.type is of Databricks: Azure ML takes EntraClientSecret or EntraCertificate"
ENTRA_NEEDED = "identity.secretRef.entra is needed by the types EntraClientSecret and EntraCertificate, and by no other"
TENANT_NEEDED = "identities of Azure need entra.tenantId for Azure Databricks: add entra to the mode"
LENT_ALONE = (
    "azureWorkloadIdentity and managedIdentity are the operator's own, which only an administrator may lend: use them "
    "in a ClusterMLWorkspace, or another mode"
)


def cases(kind: str) -> list[Case]:
    """Of what a namespace may use, and an administrator as well."""

    def case(spec: Object, field: str, message: str) -> Case:
        return Case(kind, spec, {}, field, message)

    federated: Object = {"serviceAccountName": "trainer"}
    entra_secret: Object = {"name": "entra", "type": "EntraClientSecret"}
    pat: Object = {"name": "pat", "type": "PersonalAccessToken"}
    return [
        case(databricks({}), "spec.identity", ONE_MODE),
        case(databricks({"federated": federated, "secretRef": OAUTH}), "spec.identity", ONE_MODE),
        case(
            databricks({"federated": federated | {"policy": "Account", "entra": ENTRA}}),
            "spec.identity.federated",
            ONE_WAY,
        ),
        case(databricks({"oidc": OIDC | {"policy": "Account", "entra": ENTRA}}), "spec.identity.oidc", ONE_WAY),
        *(
            case(databricks({"oidc": OIDC | {"issuer": issuer}}), "spec.identity.oidc.issuer", ISSUER)
            for issuer in ("http://example.okta.com", "https://a@b.c/d", "https://a.b/c?d=e", "https://a.b/#c")
        ),
        case(databricks({"secretRef": pat}), "spec.identity.secretRef", NO_PAT),
        case(databricks({"secretRef": pat | {"allowPersonalAccessToken": False}}), "spec.identity.secretRef", NO_PAT),
        *(
            case(azure({mode: given | {"entra": ENTRA}}), "spec", NO_ENTRA_ON_AZURE)
            for mode, given in (
                ("federated", federated),
                ("oidc", OIDC),
                ("secretRef", entra_secret),
            )
        ),
        case(azure({"federated": federated | {"policy": "Account"}}), "spec", NO_POLICY_ON_AZURE),
        case(azure({"oidc": OIDC | {"policy": "ServicePrincipal"}}), "spec", NO_POLICY_ON_AZURE),
        case(azure({"secretRef": OAUTH}), "spec", OF_DATABRICKS),
        case(azure({"secretRef": pat | {"allowPersonalAccessToken": True}}), "spec", OF_DATABRICKS),
        case(
            databricks({"secretRef": pat | {"allowPersonalAccessToken": True, "clientId": CLIENT}}),
            "spec.identity.secretRef",
            NO_CLIENT,
        ),
        case(databricks({"secretRef": entra_secret}), "spec", ENTRA_NEEDED),
        case(databricks({"secretRef": OAUTH | {"entra": ENTRA}}), "spec", ENTRA_NEEDED),
    ]


def lent_cases() -> list[Case]:
    """Of the operator's own identities: none in a namespace's workspace, and in a shared one as its platform needs."""
    own = [
        Case("MLWorkspace", spec, {}, "spec", LENT_ALONE)
        for spec in (*map(databricks, _LENT_ON_DATABRICKS), *map(azure, _LENT_ON_AZURE))
    ]
    shared = [
        *(
            Case("ClusterMLWorkspace", databricks({mode: given}), {}, "spec", TENANT_NEEDED)
            for mode in ("azureWorkloadIdentity", "managedIdentity")
            for given in ({}, {"clientId": CLIENT})
        ),
        *(
            Case("ClusterMLWorkspace", azure({mode: {"entra": ENTRA}}), {}, "spec", NO_ENTRA_ON_AZURE)
            for mode in ("azureWorkloadIdentity", "managedIdentity")
        ),
    ]
    return [*own, *shared]


IDENTITIES_REFUSED = [*cases("MLWorkspace"), *cases("ClusterMLWorkspace"), *lent_cases()]
# Specs that break two rules with one mistake.
IDENTITIES_REFUSED_TWICE: list[tuple[str, Object, set[tuple[str, str]]]] = [
    ("MLWorkspace", databricks({mode: {}}), {("spec", LENT_ALONE), ("spec", TENANT_NEEDED)})
    for mode in ("azureWorkloadIdentity", "managedIdentity")
]

NAMES = ("Team", "-team", "team_a")
CLIENTS = ("a/b", "a b", "-a")
TENANTS = ("a/b", "a b", "-a", ".", "a.", "https://a")
CLOUDS = ("https://a.b", "-a", "a b", "a.b")
WRONG_IDENTITIES: dict[str, tuple[str, ...]] = {
    **{
        f"spec.identity.{mode}.entra.{field}": texts
        for mode in ("federated", "azureWorkloadIdentity", "managedIdentity", "oidc", "secretRef")
        for field, texts in (("tenantId", TENANTS), ("cloud", CLOUDS))
    },
    **{f"spec.identity.{mode}.clientId": CLIENTS for mode in ("azureWorkloadIdentity", "managedIdentity", "secretRef")},
    "spec.identity.oidc.principal": CLIENTS,
    "spec.identity.oidc.secretName": NAMES,
    "spec.identity.secretRef.name": NAMES,
    "spec.identity.secretRef.maxAge": ("30", "d", "0d", "-1d", "1.5d", "30D", "1 d", "forever"),
}

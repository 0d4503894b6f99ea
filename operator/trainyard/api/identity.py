"""How the operator proves who is asking: one mode in each workspace. Imported through workspace.py and run_status.py.

Nothing in here is a secret: an attempt keeps the whole block, so that its run can still be stopped when the workspace
has changed or gone.
"""

from typing import Annotated, Literal

from pydantic import Field

from trainyard.api.base import ApiModel, Name, ShortName, rules

FEDERATED = "federated"
AZURE_WORKLOAD_IDENTITY = "azureWorkloadIdentity"
MANAGED_IDENTITY = "managedIdentity"
OIDC = "oidc"
SECRET_REF = "secretRef"  # noqa: S105 - the name of a mode
MODES = (FEDERATED, AZURE_WORKLOAD_IDENTITY, MANAGED_IDENTITY, OIDC, SECRET_REF)
# These are the operator's own: only an administrator may lend them (ClusterMLWorkspace), to namespaces that it names.
OPERATOR_WIDE = frozenset({AZURE_WORKLOAD_IDENTITY, MANAGED_IDENTITY})

DEFAULT_MAX_AGE = "30d"
_CLIENT_ID = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"
_TENANT = r"^[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?$"

# How a Databricks federation policy finds the principal.
Policy = Literal["ServicePrincipal", "Account"]
PolicyField = Annotated[
    Policy | None,
    Field(
        default=None,
        description="Which kind of federation policy of Databricks trusts the assertion: ServicePrincipal is one of "
        "the principal's own, Account is one of the account, which finds the principal by a claim. "
        "Absent: ServicePrincipal.",
    ),
]
_ONE_WAY = (
    "!has(self.entra) || !has(self.policy)",
    "policy is of Databricks' own token exchange, and entra goes another way: remove one of them",
)


class EntraSignIn(ApiModel):
    """Where an Azure Databricks workspace's tokens are got, instead of from Databricks itself."""

    tenant_id: Annotated[
        str,
        Field(min_length=1, max_length=64, pattern=_TENANT, description="Entra tenant: its id, or a domain of it."),
    ]
    cloud: Annotated[
        ShortName | None,
        Field(
            default=None,
            pattern=r"^[A-Za-z0-9][A-Za-z0-9-]*$",
            description="AzurePublic, AzureUSGovernment, AzureChina, or a cloud that the operator was started with "
            "(--azure-cloud). Absent: AzurePublic.",
        ),
    ] = None


EntraField = Annotated[
    EntraSignIn | None,
    Field(
        default=None,
        description="Sign in at Entra for an Azure Databricks workspace. Absent: Databricks' own token exchange; an "
        "Azure ML workspace always signs in at Entra, with its own tenantId.",
    ),
]


class FederatedIdentity(ApiModel):
    """A ServiceAccount token exchanged for a short-lived platform token; nothing is stored."""

    model_config = ApiModel.model_config | {"json_schema_extra": rules(_ONE_WAY)}

    service_account_name: Annotated[
        Name,
        Field(
            description="ServiceAccount in the namespace of the run (not of the workspace, where they differ). It must "
            "opt in with the annotation trainyard.dev/databricks-client-id, whose value is the application id of the "
            "service principal that trusts it; for Entra with trainyard.dev/azure-client-id, or Azure's own "
            "azure.workload.identity/client-id, whose value is the client id of the application or managed identity "
            "that trusts it."
        ),
    ]
    policy: PolicyField = None
    entra: EntraField = None


class AzureWorkloadIdentity(ApiModel):
    """The operator's own identity in AKS: the token file and variables that Azure's webhook puts into its pod."""

    client_id: Annotated[
        str | None,
        Field(
            default=None,
            max_length=64,
            pattern=_CLIENT_ID,
            description="Client id of an application or managed identity that trusts the operator's ServiceAccount. "
            "Absent: the one that the webhook names (AZURE_CLIENT_ID).",
        ),
    ] = None
    entra: EntraField = None


class ManagedIdentity(ApiModel):
    """A managed identity of the machine that the operator runs on, from Azure's instance metadata service."""

    client_id: Annotated[
        str | None,
        Field(
            default=None,
            max_length=64,
            pattern=_CLIENT_ID,
            description="Client id of a user-assigned identity. Absent: the machine's system-assigned one.",
        ),
    ] = None
    entra: EntraField = None


class OidcIdentity(ApiModel):
    """A token of another OpenID Connect provider (client credentials), used as the federated assertion."""

    model_config = ApiModel.model_config | {"json_schema_extra": rules(_ONE_WAY)}

    issuer: Annotated[
        str,
        Field(
            min_length=9,
            max_length=512,
            description="The provider's issuer URL, as its tokens name it, for example "
            "https://example.okta.com/oauth2/default. It must be on the operator's allow-list (--allowed-issuer).",
            json_schema_extra=rules(
                ("self.matches('^https://[^?#@]+$')", "issuer must be an https URL without a query or user")
            ),
        ),
    ]
    client_id: Annotated[
        str,
        Field(min_length=1, max_length=255, description="Id of the client (service app) at the provider."),
    ]
    secret_name: Annotated[
        Name,
        Field(
            description="Secret in the namespace of the run with what the client proves itself by: the key "
            "client-secret, or private-key (PEM) with, if the provider wants it, key-id. It must opt in with the "
            "annotation trainyard.dev/identity: oidc."
        ),
    ]
    authentication: Annotated[
        Literal["ClientSecretBasic", "PrivateKeyJwt"],
        Field(description="How the client proves itself at the provider's token endpoint."),
    ]
    key_id: Annotated[
        str | None,
        Field(
            default=None,
            max_length=255,
            description="The private key's kid at the provider, with PrivateKeyJwt, unless the Secret says it in its "
            "key key-id, where it changes together with the private key. Absent: that, or none is sent.",
        ),
    ] = None
    assertion_audience: Annotated[
        Literal["Issuer", "TokenEndpoint"] | None,
        Field(
            default=None,
            description="Whom the client's own assertion is for, with PrivateKeyJwt: Issuer as RFC 10070 (and Auth0) "
            "has it, TokenEndpoint as OpenID Connect Core 1.0 has it. Absent: TokenEndpoint.",
        ),
    ] = None
    scope: Annotated[
        str | None,
        Field(
            default=None, max_length=512, description="Scopes to ask for, separated by spaces. Absent: none is sent."
        ),
    ] = None
    audience: Annotated[
        str | None,
        Field(
            default=None,
            max_length=512,
            description="Audience to ask for, for providers that take the parameter audience or resource. "
            "Absent: neither is sent, and the provider's own setting counts.",
        ),
    ] = None
    principal: Annotated[
        str,
        Field(
            min_length=1,
            max_length=64,
            pattern=_CLIENT_ID,
            description="Application id of the Databricks service principal, or client id of the Entra application, "
            "that trusts the provider's token.",
        ),
    ]
    policy: PolicyField = None
    entra: EntraField = None


class SecretRefIdentity(ApiModel):
    """A Secret that a vault or a person keeps, guarded by its age. For platforms that do not federate yet."""

    model_config = ApiModel.model_config | {
        "json_schema_extra": rules(
            (
                "self.type != 'PersonalAccessToken' || "
                "(has(self.allowPersonalAccessToken) && self.allowPersonalAccessToken)",
                "a personal access token belongs to a person and is long-lived: use another type, or say "
                "allowPersonalAccessToken: true",
            ),
            (
                "self.type != 'PersonalAccessToken' || !has(self.clientId)",
                "a personal access token is its owner's, whom the workspace tells: remove clientId",
            ),
        )
    }

    name: Annotated[
        Name,
        Field(
            description="Secret in the namespace of the run. It must opt in with the annotation "
            "trainyard.dev/identity, whose value is the type below. Its keys: client-id unless clientId is given, and "
            "client-secret, or certificate (PEM with its key, without a password; or tls.crt and tls.key); or token "
            "alone, for a personal access token."
        ),
    ]
    type: Annotated[
        Literal["DatabricksOAuthSecret", "EntraClientSecret", "EntraCertificate", "PersonalAccessToken"],
        Field(description="What the Secret holds."),
    ]
    client_id: Annotated[
        str | None,
        Field(
            default=None,
            max_length=64,
            pattern=_CLIENT_ID,
            description="Application id of the secret's principal. Absent: the Secret's key client-id.",
        ),
    ] = None
    max_age: Annotated[
        str | None,
        Field(
            default=None,
            max_length=8,
            pattern=r"^[1-9][0-9]{0,5}[smhd]$",
            description="How old the Secret's data may be, as a number and a unit (s, m, h, d), for example 90d. It is "
            "refused afterwards, and warned of 7 days before. Absent: 30d.",
        ),
    ] = None
    allow_personal_access_token: Annotated[
        bool | None,
        Field(default=None, description="Has to be true for the type PersonalAccessToken. Absent: false."),
    ] = None
    entra: EntraField = None


class Identity(ApiModel):
    """How the operator proves who is asking. Exactly one mode."""

    model_config = ApiModel.model_config | {
        "json_schema_extra": rules(
            (
                "[" + ", ".join(f"has(self.{mode})" for mode in MODES) + "].filter(x, x).size() == 1",
                f"identity needs exactly one of {', '.join(MODES)}",
            )
        )
    }

    federated: Annotated[
        FederatedIdentity | None,
        Field(
            default=None,
            description="Exchange a ServiceAccount token of the namespace for a platform token (RFC 8693; at Entra a "
            "client assertion, RFC 7523). Absent when another mode is given.",
        ),
    ] = None
    azure_workload_identity: Annotated[
        AzureWorkloadIdentity | None,
        Field(
            default=None,
            description="The operator's own workload identity in AKS, lent to allowedNamespaces. Only in a "
            "ClusterMLWorkspace. Absent when another mode is given.",
        ),
    ] = None
    managed_identity: Annotated[
        ManagedIdentity | None,
        Field(
            default=None,
            description="A managed identity of the operator's machine, lent to allowedNamespaces. Only in a "
            "ClusterMLWorkspace. Absent when another mode is given.",
        ),
    ] = None
    oidc: Annotated[
        OidcIdentity | None,
        Field(
            default=None,
            description="A token of another OpenID Connect provider as the assertion. Absent when another mode is "
            "given.",
        ),
    ] = None
    secret_ref: Annotated[
        SecretRefIdentity | None,
        Field(default=None, description="A Secret, guarded by its age. Absent when another mode is given."),
    ] = None

    @property
    def mode(self) -> str:
        """Which of MODES it is; empty if it is none that this version knows."""
        return next((name for name, given in zip(MODES, self._given(), strict=True) if given is not None), "")

    @property
    def entra(self) -> EntraSignIn | None:
        """Where it signs in at Entra, if it says so."""
        return next((given.entra for given in self._given() if given is not None), None)

    def _given(
        self,
    ) -> tuple[
        FederatedIdentity | None,
        AzureWorkloadIdentity | None,
        ManagedIdentity | None,
        OidcIdentity | None,
        SecretRefIdentity | None,
    ]:
        return self.federated, self.azure_workload_identity, self.managed_identity, self.oidc, self.secret_ref

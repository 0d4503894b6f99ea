"""What every API model shares: camelCase names, closed spelling, CEL rules carried next to the field they guard.

Used by the models in this package and by the CRD generator. Never import anything here that talks to a server.
"""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

GROUP = "trainyard.dev"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"

# Names that Kubernetes itself gives to objects (RFC 1123 subdomain).
DNS_NAME = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"
# A condition's reason, as apimachinery defines it for metav1.Condition.
REASON = r"^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$"


Rule = dict[str, str]  # one entry of x-kubernetes-validations


def rules(*pairs: tuple[str, str]) -> dict[str, Any]:
    """CEL validations for `json_schema_extra`: each pair is (rule, message that tells the reader what to do)."""
    return {"x-kubernetes-validations": [{"rule": rule, "message": message} for rule, message in pairs]}


def unchanged(name: str, message: str, *, optional: bool) -> Rule:
    """A CEL validation, on the object that has the field `name`, that holds the field to what it was at creation.

    An optional field needs has() on both sides: without it, CEL fails on absence, and the rule would be an error.
    """
    rule = f"self.{name} == oldSelf.{name}"
    if optional:
        rule = f"has(self.{name}) == has(oldSelf.{name}) && (!has(self.{name}) || {rule})"
    return {"rule": rule, "message": f"{name} {message}", "fieldPath": f".{name}", "reason": "FieldValueForbidden"}


class ApiModel(BaseModel):
    """A part of a resource: snake_case in Python, camelCase on the wire, unknown keys ignored.

    Unknown keys are ignored rather than refused because the API server has pruned them already, and because an
    older operator must be able to read an object that a newer schema has let in.
    """

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="ignore", frozen=True)

    def wire(self) -> dict[str, Any]:
        """The object as the API server stores it: camelCase, absent instead of null."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)


def _no_newline(value: str) -> str:
    if "\n" in value or "\r" in value:
        raise ValueError("must be a single line")
    return value


Name = Annotated[str, Field(min_length=1, max_length=253, pattern=DNS_NAME)]
ShortName = Annotated[str, Field(min_length=1, max_length=63)]
Line = Annotated[str, AfterValidator(_no_newline)]
Seconds = Annotated[int, Field(ge=1, le=31_536_000)]  # up to a year
Time = Annotated[str, Field(json_schema_extra={"format": "date-time"})]  # RFC 3339, UTC


class Condition(ApiModel):
    """One aspect of the resource's state, in the shape of metav1.Condition."""

    type: Annotated[str, Field(max_length=64, description="Name of the aspect, for example Ready.")]
    status: Annotated[Literal["True", "False", "Unknown"], Field(description="Whether the aspect holds.")]
    reason: Annotated[str, Field(max_length=128, pattern=REASON, description="Stable CamelCase word for programs.")]
    message: Annotated[str, Field(max_length=4096, description="A sentence for people: what happened, what to do.")]
    last_transition_time: Annotated[
        Time,
        Field(description="When `status` last changed (RFC 3339, UTC)."),
    ]
    observed_generation: Annotated[
        int | None, Field(default=None, ge=0, description="The generation of the spec that this was computed from.")
    ] = None

"""Cluster policies: rules that a new cluster's specification must satisfy, and the values they fill in.

databricks/policies.py serves them, cluster_spec.py applies them. `applied` is pure.

Read in: Databricks documentation, "Compute policy reference" (types of rules, isOptional, defaultValue; attributes
without a rule are free); databricks-sdk `service/compute.py` ClusterPoliciesAPI ("available to admins only") and
ClusterSpec.apply_policy_default_values ("When set to false, only fixed values from the policy will be applied").
The sentences "Cluster validation error: Validation failed for ..." are (recalled).
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from trainyard_sandbox.compute.rights import POLICY_USE, holds
from trainyard_sandbox.errors import ApiError, already_exists, invalid_parameter, not_found, permission_denied
from trainyard_sandbox.principals import Principal

_RULE_FIELDS = {
    "fixed": {"value", "hidden", "isOptional"},
    "forbidden": {"hidden"},
    "allowlist": {"values", "defaultValue", "isOptional", "hidden"},
    "blocklist": {"values", "defaultValue", "isOptional", "hidden"},
    "regex": {"pattern", "defaultValue", "isOptional", "hidden"},
    "range": {"minValue", "maxValue", "defaultValue", "isOptional", "hidden"},
    "unlimited": {"defaultValue", "isOptional", "hidden"},
}
_MAPS = ("spark_conf", "spark_env_vars", "custom_tags")
"""Attributes whose keys may hold dots: the rest of a rule's path is one key."""

Rules = dict[str, dict[str, Any]]


@dataclass(frozen=True)
class Policy:
    """One policy; `definition` is the JSON text as given."""

    policy_id: str
    spec: dict[str, Any]
    creator: str
    created_at: int

    @property
    def rules(self) -> Rules:
        """Attribute path to rule."""
        found: Rules = json.loads(self.spec.get("definition", "{}"))
        return found

    def shown(self) -> dict[str, Any]:
        """As policies/clusters/get shows it."""
        return {
            **self.spec,
            "policy_id": self.policy_id,
            "creator_user_name": self.creator,
            "created_at_timestamp": self.created_at,
            "is_default": False,
        }


class PolicyStore:
    """All cluster policies of the workspace.

    Args:
        now: the sandbox's clock, Unix seconds.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._policies: dict[str, Policy] = {}

    def create(self, spec: dict[str, Any], principal: Principal) -> Policy:
        """A new policy, by an admin."""
        _admins_only(principal)
        if any(policy.spec["name"] == spec["name"] for policy in self._policies.values()):
            raise already_exists(f"A cluster policy named '{spec['name']}' exists already.")
        _check_definition(spec.get("definition", "{}"))
        policy_id = secrets.token_hex(8).upper()
        policy = Policy(policy_id, spec, principal.application_id, int(self._now() * 1000))
        self._policies[policy_id] = policy
        return policy

    def get(self, policy_id: str, principal: Principal) -> Policy:
        """The policy, if the principal may use it.

        Raises:
            ApiError: 404 or 403.
        """
        policy = self._policies.get(policy_id)
        if policy is None:
            raise not_found(f"Cluster policy {policy_id} does not exist")
        _require_use(policy_id, principal)
        return policy

    def visible(self, principal: Principal) -> list[Policy]:
        """The policies that the principal may use."""
        return [p for p in self._policies.values() if holds(principal, f"cluster-policies/{p.policy_id}", POLICY_USE)]

    def usable(self, policy_id: str, principal: Principal) -> Policy:
        """The policy for a new cluster.

        Raises:
            ApiError: 403, or 400 when there is none.
        """
        _require_use(policy_id, principal)
        policy = self._policies.get(policy_id)
        if policy is None:
            raise invalid_parameter(f"Cluster policy {policy_id} does not exist")
        return policy

    def delete(self, policy_id: str, principal: Principal) -> None:
        """Delete a policy; clusters that it governs go on (ClusterPoliciesAPI.delete)."""
        _admins_only(principal)
        if self._policies.pop(policy_id, None) is None:
            raise not_found(f"Cluster policy {policy_id} does not exist")


def applied(rules: Rules, spec: dict[str, Any], cluster_type: str) -> dict[str, Any]:
    """The specification with the policy's values filled in.

    Args:
        rules: attribute path to rule.
        spec: a cluster specification.
        cluster_type: `job` or `all-purpose`, what the virtual attribute `cluster_type` is compared with.

    Raises:
        ApiError: 400, a rule is not satisfied.
    """
    result: dict[str, Any] = json.loads(json.dumps(spec))
    defaults = bool(spec.get("apply_policy_default_values"))
    for path, rule in rules.items():
        if path == "cluster_type":
            _check_value(path, rule, cluster_type)
            continue
        value = _read(result, path)
        if value is None:
            value = _filled_in(result, path, rule, defaults)
        if value is not None:
            _check_value(path, rule, value)
        elif rule["type"] != "forbidden" and not rule.get("isOptional") and not _sized_otherwise(result, path):
            raise _violation(path, "the value must be present")
    return result


def _filled_in(spec: dict[str, Any], path: str, rule: dict[str, Any], defaults: bool) -> Any:
    value = None
    if rule["type"] == "fixed" and not rule.get("isOptional"):
        value = rule["value"]
    elif defaults:
        value = rule.get("defaultValue")
    if value is not None and not _sized_otherwise(spec, path):
        _write(spec, path, value)
    return value


def _sized_otherwise(spec: dict[str, Any], path: str) -> bool:
    """A rule for one way to size a cluster does not bind the other (num_workers or autoscale, never both)."""
    return (path.startswith("autoscale.") and "num_workers" in spec) or (path == "num_workers" and "autoscale" in spec)


def _check_value(path: str, rule: dict[str, Any], value: Any) -> None:
    kind, shown = rule["type"], f'(is "{value}")'
    if kind == "forbidden":
        raise _violation(path, "the value cannot be present")
    if kind == "fixed" and _text(value) != _text(rule["value"]):
        raise _violation(path, f"the value must be {_text(rule['value'])} {shown}")
    listed = [_text(entry) for entry in rule.get("values", [])]
    if kind == "allowlist" and _text(value) not in listed:
        raise _violation(path, f"the value must be one of {', '.join(listed)} {shown}")
    if kind == "blocklist" and _text(value) in listed:
        raise _violation(path, f"the value must not be one of {', '.join(listed)} {shown}")
    if kind == "regex" and re.fullmatch(rule["pattern"], _text(value)) is None:
        raise _violation(path, f"the value must match {rule['pattern']} {shown}")
    if kind == "range":
        if "minValue" in rule and value < rule["minValue"]:
            raise _violation(path, f"the value must be at least {rule['minValue']} {shown}")
        if "maxValue" in rule and value > rule["maxValue"]:
            raise _violation(path, f"the value must be at most {rule['maxValue']} {shown}")


def _text(value: Any) -> str:
    return json.dumps(value) if isinstance(value, bool) else str(value)


def _violation(path: str, reason: str) -> ApiError:
    return invalid_parameter(f"Cluster validation error: Validation failed for {path}, {reason}")


def _keys(path: str) -> list[str]:
    first, _, rest = path.partition(".")
    if not rest:
        return [first]
    return [first, rest] if first in _MAPS else path.split(".")


def _read(spec: dict[str, Any], path: str) -> Any:
    value: Any = spec
    for key in _keys(path):
        if not isinstance(value, dict):
            return None
        value = value.get(key)
    return value


def _write(spec: dict[str, Any], path: str, value: Any) -> None:
    *parents, last = _keys(path)
    for key in parents:
        spec = spec.setdefault(key, {})
    spec[last] = value


def _check_definition(text: str) -> None:
    """Rules of a shape that we know; what the platform takes beyond them is refused rather than ignored."""
    try:
        definition = json.loads(text)
    except ValueError:
        raise invalid_parameter("The policy definition is not valid JSON.") from None
    if not isinstance(definition, dict):
        raise invalid_parameter("The policy definition must be a JSON object.")
    for path, rule in definition.items():
        if path == "dbus_per_hour" or "*" in path or path.startswith(("init_scripts", "libraries", "docker_image")):
            raise invalid_parameter(f"Policy rules for '{path}' are not offered by this sandbox.")
        if not isinstance(rule, dict) or rule.get("type") not in _RULE_FIELDS:
            raise invalid_parameter(f"The policy rule for '{path}' has no known type.")
        unknown = sorted(set(rule) - {"type"} - _RULE_FIELDS[rule["type"]])
        if unknown:
            raise invalid_parameter(f"The policy rule for '{path}' has the unknown field '{unknown[0]}'.")
        _check_rule(path, rule)


def _check_rule(path: str, rule: dict[str, Any]) -> None:
    needed = {"fixed": "value", "allowlist": "values", "blocklist": "values", "regex": "pattern"}.get(rule["type"])
    if needed is not None and needed not in rule:
        raise invalid_parameter(f"The policy rule for '{path}' lacks the field '{needed}'.")
    if rule["type"] == "regex":
        try:
            re.compile(rule["pattern"])
        except (re.error, TypeError):
            raise invalid_parameter(f"The policy rule for '{path}' has no valid pattern.") from None


def _require_use(policy_id: str, principal: Principal) -> None:
    if not holds(principal, f"cluster-policies/{policy_id}", POLICY_USE):
        raise permission_denied(f"{principal.application_id} is not authorized to use policy {policy_id}.")


def _admins_only(principal: Principal) -> None:
    if not principal.is_admin:
        raise permission_denied("Only workspace admins can create and edit cluster policies.")

"""What the chart and the rest of the repository share: the CRDs, and the operator's rights.

Called by hack/generate.py. The CRDs become a template rather than Helm's crds/ folder, because Helm never upgrades that
folder. The rights come out of the chart, so that tests and demo run the operator under what the chart grants.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

from crdgen.crds import GENERATED, Kind, render_crd

_KEEP = """  {{- if .Values.crds.keep }}
  annotations:
    helm.sh/resource-policy: keep
  {{- end }}
"""


def render_chart_crds(kinds: Iterable[Kind]) -> str:
    """The template's text. Raises ValueError when a description would be read as a template's action."""
    parts = ["{{- if .Values.crds.enabled }}\n"]
    for kind in kinds:
        text = render_crd(kind)
        if "{{" in text:
            raise ValueError(f"the CRD of {kind.name} contains {{{{, which Helm would read as an action")
        before, name, after = text.partition("metadata:\n")
        line, rest = after.split("\n", 1)
        parts += ["---\n", before, name, line, "\n", _KEEP, rest]
    return "".join([*parts, "{{- end }}\n"])


def render_rights(rules_folder: Path) -> str:
    """The chart's rights for all namespaces and every ServiceAccount, as a manifest that needs no Helm.

    Each file of `rules_folder`, the chart's files/rbac, becomes a ClusterRole bound to trainyard-system/trainyard.
    """
    documents = [
        each
        for file in sorted(rules_folder.glob("*.yaml"))
        for each in _bound(f"trainyard-{file.stem}", yaml.safe_load(file.read_text(encoding="utf-8")))
    ]
    header = GENERATED.format(source="charts/trainyard/files/rbac")
    return header + yaml.safe_dump_all(documents, sort_keys=False)


def _bound(name: str, rules: list[dict[str, Any]]) -> list[dict[str, Any]]:
    api, group = "rbac.authorization.k8s.io/v1", "rbac.authorization.k8s.io"
    operator = {"kind": "ServiceAccount", "name": "trainyard", "namespace": "trainyard-system"}
    return [
        {"apiVersion": api, "kind": "ClusterRole", "metadata": {"name": name}, "rules": rules},
        {
            "apiVersion": api,
            "kind": "ClusterRoleBinding",
            "metadata": {"name": name},
            "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": name},
            "subjects": [operator],
        },
    ]

"""What the chart takes from the rest of the repository: the CRDs.

Called by hack/generate.py. They become a template rather than Helm's crds/ folder, because Helm never upgrades that
folder. What the rest takes from the chart, the operator's rights, is in rights.py.
"""

from collections.abc import Iterable

from crdgen.crds import Kind, render_crd

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

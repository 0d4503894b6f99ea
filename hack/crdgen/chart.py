"""The chart's template of the CRDs: the text of crds/ inside the chart's two switches.

Called by hack/generate.py. A template rather than Helm's crds/ folder, because Helm never upgrades that folder.
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

"""docs/identity: manifests as they stand in examples/, and every page says what a reader has to find in it.

What the doctor says in the pages is compared in tests/e2e/test_identity_pages.py.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.identity_pages import EXAMPLES, FOLDER, PAGES, agree, cases, quoted, told, with_examples, with_told
from tests.unit.test_docs import reasons
from trainyard.api.identity import MODES

MODE_PAGES = {
    "federated": "federated.md",
    "azureWorkloadIdentity": "azure-workload-identity.md",
    "managedIdentity": "managed-identity.md",
    "oidc": "oidc.md",
    "secretRef": "secret-ref.md",
}
CLUSTERS = ("AKS", "EKS", "GKE", "A private or self-managed cluster")


def body_of(mode: str) -> str:
    return (FOLDER / MODE_PAGES[mode]).read_text()


def test_every_mode_has_a_page_and_the_index_leads_to_it() -> None:
    assert MODE_PAGES.keys() == set(MODES)
    index = (FOLDER / "README.md").read_text()
    assert [page for page in MODE_PAGES.values() if f"]({page})" not in index] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_quotes_each_manifest_as_it_stands(page: Path) -> None:
    assert agree(page, with_examples)


def test_every_manifest_is_in_a_page() -> None:
    shown = {path for page in PAGES for path in quoted(page.read_text())}
    assert shown == set(EXAMPLES.glob("*.yaml"))


@pytest.mark.parametrize("mode", MODES)
def test_a_page_tells_of_every_kind_of_cluster(mode: str) -> None:
    headings = re.findall(r"^###? (.+)$", body_of(mode), re.MULTILINE)
    assert [cluster for cluster in CLUSTERS if cluster not in headings] == []


@pytest.mark.parametrize("mode", MODES)
def test_a_page_tells_of_failures_and_of_taking_the_access_away(mode: str) -> None:
    headings = re.findall(r"^## (.+)$", body_of(mode), re.MULTILINE)
    assert {"What each failure says", "Rotation and revocation"} <= set(headings)


@pytest.mark.parametrize("mode", MODES)
def test_a_page_shows_the_doctor_with_a_right_and_a_wrong_set_up(mode: str) -> None:
    shown = told(body_of(mode))
    assert {name.rpartition("-")[2] for name in shown} == {"right", "wrong"}
    assert [name for name, said in shown.items() if "trainyard doctor" not in said] == []


def test_no_case_of_the_doctor_is_shown_twice() -> None:
    names = [name for _, name in cases()]
    assert len(set(names)) == len(names) >= 2 * len(MODES)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_reason_that_a_page_names_is_one_that_the_code_can_write(page: Path) -> None:
    section = page.read_text().partition("## What each failure says")[2].partition("\n## ")[0]
    named = {
        word
        for row in section.splitlines()
        if row.startswith("| `")
        for word in re.findall(r"`(\w+)`", row.split("|")[1])
    }
    assert named - reasons() == set()


@pytest.mark.parametrize("file", sorted(EXAMPLES.glob("*.yaml")), ids=lambda file: file.stem)
def test_a_manifest_holds_no_secret(file: Path) -> None:
    assert [each["kind"] for each in yaml.safe_load_all(file.read_text()) if each["kind"] == "Secret"] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_shows_no_token(page: Path) -> None:
    assert re.search(r"eyJ[\w-]{20}", page.read_text()) is None


def values_blocks() -> Iterator[Any]:
    for page in PAGES:
        for block in re.findall(r"^```yaml\n(# values\.yaml of the chart\n.*?)^```", page.read_text(), re.M | re.S):
            yield pytest.param(yaml.safe_load(block), id=page.stem)


@pytest.mark.parametrize("values", list(values_blocks()))
def test_values_of_the_chart_that_a_page_shows_are_the_charts(values: dict[str, Any]) -> None:
    known = yaml.safe_load((FOLDER.parents[1] / "charts/trainyard/values.yaml").read_text())
    strange = [name for name in values if name not in known]
    strange += [
        f"{name}.{inner}"
        for name, given in values.items()
        if isinstance(given, dict) and known.get(name)
        for inner in given
        if inner not in known[name]
    ]
    assert strange == []


def test_a_manifest_and_a_block_are_put_into_a_page() -> None:
    page = "```yaml\n# examples/identity/managed-identity.yaml\n```\n\n<!-- doctor: one -->\n\nmore\n"
    filled = with_told(with_examples(page), {"one": "$ trainyard doctor\nfine\n"})
    assert quoted(filled) == {EXAMPLES / "managed-identity.yaml"}
    assert "kind: ClusterMLWorkspace" in filled
    assert told(filled) == {"one": "$ trainyard doctor\nfine\n"}
    assert with_told(with_examples(filled), {"one": "$ trainyard doctor\nfine\n"}) == filled
    assert filled.endswith("```\n\nmore\n")

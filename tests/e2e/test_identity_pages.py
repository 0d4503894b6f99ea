"""docs/identity: the manifests apply to a real API server, and what the doctor says there is what it says.

With WRITE_PAGES=1 in the environment the blocks of the doctor are written anew (tests/identity_pages.py).
"""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
import yaml

from stand import OPERATOR_NAMESPACE, Process, Stand
from tests.e2e.conftest import FLAGS
from tests.e2e.doctor_bench import EXAMPLES, Bench, environment
from tests.e2e.doctor_cases import CASES
from tests.e2e.scene import Scene
from tests.identity_pages import agree, cases, told, with_told
from tests.providers.oidc.provider import Provider, serve_provider

# Kinds of others, which this API server does not have.
FOREIGN = {"ExternalSecret", "SecretProviderClass"}
CLUSTER_WORKSPACES = ("azureml", "databricks")


@pytest.fixture(scope="module")
def provider(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Provider]:
    """Another identity provider."""
    with serve_provider(tmp_path_factory.mktemp("provider")) as running:
        yield running


@pytest.fixture(scope="module")
def operated(pretending: Stand, provider: Provider, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """An operator that knows the other provider and the metadata service."""
    folder = tmp_path_factory.mktemp("identity-pages")
    flags = {**FLAGS, "allowed_issuer": provider.issuer, "imds_endpoint": pretending.address.imds}
    cluster = pretending.cluster
    kubeconfig = cluster.service_account_kubeconfig(OPERATOR_NAMESPACE, "trainyard", folder / "operator.kubeconfig")
    command = pretending.operator_command(kubeconfig, folder / "audit", **flags)
    surroundings = environment(pretending, provider, folder)
    with Process("the operator", command, folder / "operator.log", surroundings) as operator:
        yield Scene(pretending, operator, "identity-pages", flags)
        operator.check()


@pytest.fixture
def bench(operated: Scene, provider: Provider, tmp_path: Path) -> Iterator[Bench]:
    """A namespace for one case."""
    operated.operator.check()
    made = Bench(operated, provider, tmp_path)
    yield made
    for step in made.undo:
        step()
    for name in CLUSTER_WORKSPACES:
        operated.cluster.kubectl("delete", "cmlws", name, "--ignore-not-found", "--wait=false")
    operated.clean()


def test_every_case_that_a_page_shows_is_tried() -> None:
    assert {name for _, name in cases()} == CASES.keys()


@pytest.mark.parametrize(("page", "name"), [pytest.param(page, name, id=name) for page, name in cases()])
def test_the_doctor_says_what_the_page_shows(bench: Bench, page: Path, name: str) -> None:
    said = CASES[name].said(bench)
    if not agree(page, partial(with_told, said={name: said})):
        assert said == told(page.read_text())[name]
        raise AssertionError(f"the block {name} is not as it would be written")


@pytest.mark.parametrize("file", sorted(EXAMPLES.glob("*.yaml")), ids=lambda file: file.stem)
def test_a_manifest_is_taken_by_the_api_server_as_it_stands(bench: Bench, file: Path) -> None:
    """Into a namespace of the test's own; cluster-wide objects are not kept."""
    for each in yaml.safe_load_all(file.read_text()):
        if each["kind"] in FOREIGN | {"Namespace"}:
            continue
        namespaced = "namespace" in each["metadata"]
        if namespaced:
            each["metadata"]["namespace"] = bench.namespace
        words = ["--validate=strict"] if namespaced else ["--validate=strict", "--dry-run=server"]
        bench.scene.cluster.kubectl("apply", *words, "-f", "-", input=yaml.safe_dump(each))

"""Faults while a model is being served: what the deployment says meanwhile, and that it ends as if there were none.

As test_faults.py has it of runs. Served models are pretended: what counts are the requests of the operator.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import pytest

from stand import wait_for
from tests.e2e.deployments import SERVING_FLAGS, Deployment, Setting
from tests.e2e.faulting import status, teams
from tests.e2e.scene import Scene
from tests.platforms import NAMES
from tests.platforms.base import Call
from tests.platforms.models import DESCRIBED

OPERATOR_FLAGS = {**SERVING_FLAGS, "tell_after_seconds": "1"}

UNREACHABLE, THROTTLED, MALFORMED = "PlatformUnreachable", "PlatformThrottled", "PlatformAnswerMalformed"
DENIED = "PermissionDenied"
When = Literal["create", "change", "look", "remove"]
ENDPOINTS, ONLINE = "/api/2.0/serving-endpoints", "/subscriptions/.*/onlineEndpoints/[^/]+"
CALLS: Mapping[str, Mapping[When, Call]] = {
    "databricks": {
        "create": Call(ENDPOINTS, "POST"),
        "change": Call(f"{ENDPOINTS}/[^/]+/config", "PUT"),
        "look": Call(f"{ENDPOINTS}/[^/]+", "GET"),
        "remove": Call(f"{ENDPOINTS}/[^/]+", "DELETE"),
    },
    "azureml": {
        "create": Call(ONLINE, "PUT"),
        "change": Call(f"{ONLINE}/deployments/[^/]+", "PUT"),
        "look": Call(ONLINE, "GET"),
        "remove": Call(ONLINE, "DELETE"),
    },
}


@dataclass(frozen=True)
class Row:
    """One fault of the request that the deployment makes then. `meanwhile` is the reason while it lasts, if it does."""

    when: When
    what: str
    kind: str
    fields: Mapping[str, Any] = field(default_factory=dict, hash=False)
    meanwhile: str = ""

    def __str__(self) -> str:
        return f"{self.when}: {self.what}"


LATE = {"after_effect": True}
OF_CHANGES = [
    ("429 once", "status", status(429, retry_after="1"), ""),
    ("429 for long", "status", status(429, retry_after="1"), THROTTLED),
    ("500 after the effect", "status", LATE | status(500), ""),
    ("503 for long", "status", status(503), UNREACHABLE),
    ("reset before the effect", "reset", {}, ""),
    ("reset after the effect", "reset", LATE, ""),
    ("hangs, then had its effect", "hang", LATE, ""),
    ("malformed JSON", "malformed_json", LATE, ""),
    ("403", "status", status(403), DENIED),
]
OF_LOOKS = [
    ("429 for long", "status", status(429, retry_after="1"), THROTTLED),
    ("500 once", "status", status(500), ""),
    ("503 for long", "status", status(503), UNREACHABLE),
    ("hangs", "hang", {}, ""),
    ("malformed JSON for long", "malformed_json", {}, MALFORMED),
]
ROWS = [
    *(Row("create", *each) for each in OF_CHANGES),
    *(Row("change", *each) for each in OF_CHANGES),
    Row("change", "409, as somebody else changes it", "status", status(409)),
    *(Row("look", *each) for each in OF_LOOKS),
    *(Row("remove", *each) for each in OF_CHANGES if each[1] != "malformed_json"),
]
CASES = [pytest.param(platform, row, id=f"{platform}, {row}") for platform in NAMES for row in ROWS]


@pytest.fixture(scope="module")
def settings(_pretending_scene: Scene) -> Iterator[dict[str, Setting]]:
    """One team per platform for the whole table, with a model of two versions."""
    with teams(_pretending_scene, *NAMES) as made:
        found = {name: Setting(_pretending_scene, team) for name, team in made.items()}
        for name, each in found.items():
            _pretending_scene.on(name)
            for _ in range(2):
                each.driver.publish(each.team, each.model, DESCRIBED)
        yield found


@pytest.mark.parametrize(("platform_name", "row"), CASES)
def test_a_fault_neither_stops_a_deployment_nor_leaves_a_second_endpoint(
    scene: Scene, settings: dict[str, Setting], row: Row
) -> None:
    setting = settings[scene.platform.name]
    dep, name = begin(setting, row), f"f{ROWS.index(row)}"
    if row.meanwhile:
        dep.because(row.meanwhile)
        assert dep.conditions()["Stalled"] == ("True" if row.meanwhile == DENIED and row.when != "remove" else "False")
        scene.control.clear_faults()
    if row.when == "remove":
        dep.gone()
        assert ours(setting, name) == []
        return
    version, revision = ("2", 2) if row.when == "change" else ("1", 1)
    if row.meanwhile:  # what it says is over before it is looked at
        dep.wait("to say so no more", lambda _: dep.reason != row.meanwhile)
    dep.until("Ready", revision=revision)
    book = dep.book()
    assert (book.shares, book.versions) == ({version: 100}, {version})
    assert ours(setting, name) == [dep.endpoint]
    assert not {"RolledBack", "EndpointDrifted"} & set(dep.events())
    dep.delete()
    dep.gone()


def begin(setting: Setting, row: Row) -> Deployment:
    """The deployment up to the moment of the fault, and the fault, which has hit when this returns."""
    scene, name = setting.scene, f"f{ROWS.index(row)}"
    fields = {**CALLS[scene.platform.name][row.when].fields(), **row.fields, "times": 0 if row.meanwhile else 1}
    dep = Deployment(scene, setting.team, name)
    if row.when != "create":
        setting.deploy(setting.served("1"), name=name).until("Ready")
    injected = scene.control.add_fault(row.kind, **fields)
    if row.when == "create":
        setting.deploy(setting.served("1"), name=name)
    elif row.when == "change":
        dep.serve(setting.served("2"))
    elif row.when == "remove":
        dep.delete()
    wait_for("the fault to hit", lambda: scene.hits(injected) > 0)
    return dep


def ours(setting: Setting, name: str) -> list[str]:
    """The endpoints that there are for the deployment of that name."""
    return [each for each in setting.driver.endpoints() if each.endswith(f"-{name}")]

"""What the endpoints of Azure ML make of answers that a served sandbox gives only by a race, or never."""

import time
from collections.abc import Mapping
from typing import Any

import pytest

from tests.unit.azureml_endpoints import UID, WORKSPACE, desired, plan, seen, serving
from tests.unit.deployments import AZURE
from trainyard.core.errors import Missing, Throttled, Unreachable
from trainyard.core.serving.seen import Reached
from trainyard.identity import clouds
from trainyard.platforms.azureml.serving import WHY_TRIES, AzureMLEndpoints
from trainyard.platforms.azureml.serving_translate import translate_endpoint

NAME = "champion-aaaaaaaa"
ONE = serving(NAME)
PATH = "/onlineEndpoints/team-a-wine"
OPERATION = "https://management.azure.com/operations/1"
FAILED = seen(desired(ONE), {NAME: "Failed"})


class Client:
    """Answers by path; `why` is what became of every operation. Errors are raised."""

    workspace = clouds.workspace_of(AZURE)
    cloud, principal, tenant = workspace.cloud, "app-id", ""

    def __init__(self, answers: Mapping[str, Any], why: Any = None) -> None:
        self.answers, self.why = answers, why
        self.asked: list[tuple[str, str]] = []

    def clock(self) -> float:
        return time.monotonic()

    def do(self, method: str, path: str, version: str, **_: Any) -> Any:
        self.asked.append((method, path))
        return self._given(self.answers.get(path, Missing("there is none")))

    def pages(self, path: str, version: str) -> Any:
        yield self._given(self.answers.get(path, []))

    def operation(self, url: str) -> Any:
        self.asked.append(("GET", url))
        return self._given(self.why)

    def _given(self, found: Any) -> Any:
        if isinstance(found, Exception):
            raise found
        return found


def endpoints(client: Client) -> AzureMLEndpoints:
    return AzureMLEndpoints(client, None, None)  # type: ignore[arg-type]  # the methods that are used


def look(made: AzureMLEndpoints) -> Reached:
    return made.reach(translate_endpoint(plan(ONE), WORKSPACE), change=False)


def failed() -> dict[str, Any]:
    (row,) = FAILED.deployments.values()
    told = {**row["properties"], "properties": {"AzureAsyncOperationUri": OPERATION}}
    return {PATH: FAILED.endpoint, f"{PATH}/deployments": [{**row, "properties": told}]}


@pytest.mark.parametrize("error", [Unreachable("no answer"), Throttled("enough", retry_after=1)])
def test_what_failed_is_seen_although_why_is_not_to_be_had(error: Exception) -> None:
    client = Client(failed(), error)
    made = endpoints(client)
    for _ in range(WHY_TRIES - 1):
        with pytest.raises(Unreachable):
            look(made)
    for _ in range(2):
        reached = look(made)
        assert reached.endpoint is not None
        (served,) = reached.endpoint.served
        assert (served.state, served.message) == ("Failed", "its provisioning failed")
    client.why = {"error": {"code": "OutOfMemory", "message": "it did not fit"}}
    told = look(made)
    assert told.endpoint is not None
    assert told.endpoint.served[0].message.endswith("OutOfMemory: it did not fit")


def test_operations_that_never_answer_do_not_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trainyard.platforms.azureml.serving.MOST_IN_VAIN", 2)
    made = endpoints(Client({}, Unreachable("no answer")))
    for number in range(5):
        with pytest.raises(Unreachable):
            made._why({"properties": {"properties": {"AzureAsyncOperationUri": f"{OPERATION}{number}"}}})
    assert list(made._in_vain) == [f"{OPERATION}3", f"{OPERATION}4"]


MALFORMED: list[Mapping[str, Any]] = [
    {PATH: ["not", "an", "object"]},
    {PATH: FAILED.endpoint, f"{PATH}/deployments": ["no object"]},
    {PATH: {**(FAILED.endpoint or {}), "systemData": "somebody"}},
    {PATH: {**(FAILED.endpoint or {}), "properties": "none"}},
]


@pytest.mark.parametrize("answers", MALFORMED)
def test_an_answer_of_another_shape_is_waited_with(answers: Mapping[str, Any]) -> None:
    with pytest.raises(Unreachable) as raised:
        look(endpoints(Client(answers)))
    assert raised.value.reason == "PlatformAnswerMalformed"


def test_an_endpoint_of_another_shape_does_not_escape_its_deletion() -> None:
    made = endpoints(Client({PATH: "an endpoint"}))
    for ask in (made.delete, made.exists):
        with pytest.raises(Unreachable) as raised:
            ask("team-a-wine", UID)
        assert raised.value.reason == "PlatformAnswerMalformed"

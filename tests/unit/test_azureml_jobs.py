"""Which jobs of an Azure ML workspace are looked at, and what their PUT carries."""

from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

import pytest

from trainyard.core.errors import Missing, PlatformError, Refused, Unreachable
from trainyard.platforms.azureml.jobs import DOUBTED_FOR, Jobs, is_ours

SINCE = datetime(2026, 11, 23, 8, tzinfo=UTC)


def row(name: str, made: str, token: str | None = None, **properties: Any) -> dict[str, Any]:
    tags = {"trainyard_token": name if token is None else token}
    return {
        "name": name,
        "properties": {"status": "Running", "tags": tags, **properties},
        "systemData": {"createdAt": f"2026-11-23T{made}Z"},
    }


class Client:
    """The client, without a wire."""

    def __init__(self, *pages: list[dict[str, Any]], **answers: Any) -> None:
        self._pages = pages
        self.answers = answers
        self.fetched = 0
        self.asked: list[tuple[str, str, Mapping[str, str]]] = []

    def pages(self, path: str, version: str, *, query: Mapping[str, Any]) -> Iterator[list[dict[str, Any]]]:
        assert query == {"listViewType": "ActiveOnly", "tag": "trainyard_token"}
        for page in self._pages:
            self.fetched += 1
            yield page

    def do(self, method: str, path: str, version: str, *, headers: Any = None, **_: Any) -> dict[str, Any]:
        self.asked.append((method, path, headers or {}))
        found = self.answers.get(method, {})
        if isinstance(found, Exception):
            raise found
        return dict(found)

    def ml_token(self) -> str:
        return "ml-token"


class History:
    def __init__(self, error: PlatformError | None = None, *names: str) -> None:
        self._error = error or Refused("not by this way")
        self._names = names

    def hide(self, name: str, experiment: str) -> None:
        raise self._error

    def has(self, name: str) -> bool:
        return name in self._names


def jobs(client: Client, history: History | None = None, clock: Callable[[], float] = lambda: 0.0) -> Jobs:
    return Jobs(client, history or History(), clock)  # type: ignore[arg-type]


def swept(client: Client) -> list[list[str]]:
    return [[run.remote_id for run in page] for page in jobs(client).pages(SINCE)]


def test_a_list_ends_at_the_first_older_job_whoever_made_it() -> None:
    older = [row("ty-2", "08:00:01"), row("ty-1", "07:59:59", token="not ours")]
    client = Client([row("ty-4", "09:00:00"), row("ty-3", "08:30:00")], older, [row("ty-0", "07:00:00")])
    assert swept(client) == [["ty-4", "ty-3"], ["ty-2"]]
    assert client.fetched == 2


def test_a_page_of_other_peoples_jobs_does_not_end_the_list() -> None:
    client = Client([row("x", "09:00:00", token="other")], [row("ty-1", "08:30:00")])
    assert swept(client) == [[], ["ty-1"]]


def test_one_call_goes_through_one_page_however_many_jobs_others_made() -> None:
    client = Client(*[[row(f"x-{at}", "09:00:00", token="other")] for at in range(1000)])
    assert next(iter(jobs(client).pages(SINCE))) == []
    assert client.fetched == 1


def test_a_page_is_fetched_when_it_is_asked_for() -> None:
    client = Client([row("ty-2", "09:00:00")], [row("ty-1", "08:30:00")])
    next(iter(jobs(client).pages(SINCE)))
    assert client.fetched == 1


OURS = [
    (row("ty-1", "08:00:00"), True),
    (row("ty-1", "08:00:00", token="ty-2"), False),
    ({"name": "ty-1", "properties": {"tags": {}}}, False),
    ({"name": "", "properties": {"tags": {"trainyard_token": ""}}}, False),
    ({"name": "ty-1", "properties": None}, False),
]


@pytest.mark.parametrize(("job", "expected"), OURS)
def test_a_job_is_ours_if_its_tag_says_its_own_name(job: dict[str, Any], expected: bool) -> None:
    assert is_ours(job) is expected


BODIES = [
    ({"jobType": "Command"}, {}),
    ({"jobType": "Command", "identity": {"identityType": "Managed", "clientId": "x"}}, {}),
    ({"jobType": "Command", "identity": {"identityType": "UserIdentity"}}, {"x-azureml-token": "ml-token"}),
    ({"jobType": "Pipeline"}, {"x-azureml-token": "ml-token"}),
]


@pytest.mark.parametrize(("properties", "headers"), BODIES)
def test_only_a_job_that_acts_as_the_submitter_is_handed_its_token(
    properties: dict[str, Any], headers: dict[str, str]
) -> None:
    client = Client()
    jobs(client).put("ty-1", {"properties": properties}, 1.0)
    assert client.asked == [("PUT", "/jobs/ty-1", headers)]


def test_a_name_can_not_lead_to_another_path() -> None:
    client = Client()
    jobs(client).get("../computes/x?y#z")
    assert client.asked[0][1] == "/jobs/..%2Fcomputes%2Fx%3Fy%23z"


@pytest.mark.parametrize("status", ["Completed", "Failed", "Canceled", "Finalizing", "CancelRequested"])
def test_a_job_that_can_not_be_cancelled_as_it_has_ended_or_is_about_to_is_fine(status: str) -> None:
    job = row("ty-1", "08:00:00", status=status)
    jobs(Client(POST=Refused("can not be canceled"), GET=job)).cancel("ty-1")


@pytest.mark.parametrize("status", ["Running", "Queued", "NotResponding", "Tomorrow"])
def test_a_cancel_that_is_refused_of_a_live_job_is_told(status: str) -> None:
    job = row("ty-1", "08:00:00", status=status)
    with pytest.raises(Refused):
        jobs(Client(POST=Refused("no"), GET=job)).cancel("ty-1")


def test_a_cancel_of_a_job_that_is_gone_says_so() -> None:
    with pytest.raises(Missing):
        jobs(Client(POST=Missing("gone"), GET=Missing("gone"))).cancel("ty-1")


def test_a_cancel_that_did_not_find_a_job_which_is_there_is_tried_again() -> None:
    with pytest.raises(Unreachable):
        jobs(Client(POST=Missing("gone"), GET=row("ty-1", "08:00:00"))).cancel("ty-1")


def test_a_job_that_run_history_has_is_not_held_to_be_gone_at_once() -> None:
    now = [0.0]
    client, history = Client(GET=Missing("gone")), History(None, "ty-1")
    followed = jobs(client, history, lambda: now[0])
    for now[0] in (0.0, DOUBTED_FOR - 1):
        with pytest.raises(Unreachable):
            followed.followed("ty-1")
    now[0] = DOUBTED_FOR
    with pytest.raises(Missing):
        followed.followed("ty-1")
    with pytest.raises(Missing):
        jobs(client, History()).followed("ty-1")


def test_an_answer_in_between_begins_the_doubt_anew() -> None:
    now = [0.0]
    client, history = Client(GET=Missing("gone")), History(None, "ty-1")
    followed = jobs(client, history, lambda: now[0])
    with pytest.raises(Unreachable):
        followed.followed("ty-1")
    client.answers["GET"] = row("ty-1", "08:00:00")
    assert followed.followed("ty-1")["name"] == "ty-1"
    now[0], client.answers["GET"] = DOUBTED_FOR, Missing("gone")
    with pytest.raises(Unreachable):
        followed.followed("ty-1")


@pytest.mark.parametrize(
    "job",
    [
        row("ty-1", "08:00:00", status="Running"),
        row("ty-1", "08:00:00", status="NotResponding"),
        row("ty-1", "08:00:00", status="Completed", token="somebody else's"),
        row("ty-1", "08:00:00", status="Completed", isArchived=True),
    ],
)
def test_only_an_ended_job_of_ours_is_archived_and_only_once(job: dict[str, Any]) -> None:
    client = Client(GET=job)
    jobs(client).archive("ty-1")
    assert [method for method, _, _ in client.asked] == ["GET"]


def test_a_job_that_can_not_be_archived_either_way_is_told_by_the_first() -> None:
    client = Client(GET=row("ty-1", "08:00:00", status="Completed"), PUT=Refused("immutable"))
    with pytest.raises(Refused) as raised:
        jobs(client).archive("ty-1")
    assert raised.value.message == "not by this way"


def test_archiving_a_job_that_was_deleted_meanwhile_starts_no_new_one() -> None:
    client = Client(GET=row("ty-1", "08:00:00", status="Completed"))
    with pytest.raises(Missing):
        jobs(client, History(Missing("deleted"))).archive("ty-1")
    assert [method for method, _, _ in client.asked] == ["GET"]

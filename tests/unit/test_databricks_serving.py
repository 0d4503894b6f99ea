"""What the endpoints of Databricks make of answers that a served sandbox gives only by a race, or never."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

import pytest
import requests

from tests.unit.databricks_endpoints import NEW, OLD, UID, desired, request, serving, shown
from trainyard.core.errors import Denied, Missing, Refused, Throttled, Unreachable
from trainyard.core.remote import Finding
from trainyard.core.serving.seen import Measured
from trainyard.platforms.base import Need
from trainyard.platforms.databricks import needs, preflight
from trainyard.platforms.databricks.serving import SHOWN, DatabricksEndpoints
from trainyard.platforms.limits import PlatformBusy

ENDPOINTS = "/api/2.0/serving-endpoints"
ONE = f"{ENDPOINTS}/team-a-wine"
GONE = Missing("there is none")
EXISTS = Refused("it is there", reason="AlreadyExists")


class Client:
    """Answers each request by the next of what is given for it, the last one again and again; errors are raised."""

    def __init__(self, answers: Mapping[tuple[str, str], list[Any]]) -> None:
        self.answers = {key: list(value) for key, value in answers.items()}
        self.asked: list[tuple[str, str]] = []
        self.plain: Callable[[str, str], requests.Response] = lambda _method, _path: answer(404, b"{}")

    def do(self, method: str, path: str, *, body: Any = None, until: float | None = None) -> Any:
        self.asked.append((method, path))
        given = self.answers.get((method, path), [{}])
        found = given.pop(0) if len(given) > 1 else given[0]
        if isinstance(found, Exception):
            raise found
        return found

    def ask(self, method: str, path: str, **_: Any) -> requests.Response:
        self.asked.append((method, path))
        return self.plain(method, path)


def answer(status: int, content: bytes, kind: str = "application/json") -> requests.Response:
    made = requests.Response()
    made.status_code, made._content = status, content
    made.headers["Content-Type"] = kind
    made.request = requests.Request("POST", "https://dbc/serving-endpoints/x").prepare()
    return made


def endpoints(client: Client) -> DatabricksEndpoints:
    return DatabricksEndpoints(client, "https://dbc", "app-id")  # type: ignore[arg-type]  # the methods that are used


CREATION: list[tuple[list[Any], Any, type[Exception], str]] = [
    # (answers to GET, answer to POST, error, its reason)
    ([GONE, GONE], EXISTS, Refused, "EndpointNameTaken"),
    ([GONE, Denied("no")], EXISTS, Refused, "EndpointNameTaken"),
    ([GONE, shown(desired(serving()))], EXISTS, PlatformBusy, "PlatformBusy"),
    ([GONE], Missing("no such version"), Refused, "NotFound"),
    ([GONE], Refused("no such size"), Refused, "RequestRefused"),
    ([GONE], Denied("you may not"), Denied, "PermissionDenied"),
    ([Denied("you may not")], {}, Denied, "PermissionDenied"),
    ([GONE], Throttled("enough", retry_after=3), Throttled, "PlatformThrottled"),
]


@pytest.mark.parametrize(("looks", "made", "error", "reason"), CREATION)
def test_an_endpoint_that_can_not_be_made_says_whose_turn_it_is(
    looks: list[Any], made: Any, error: type[Exception], reason: str
) -> None:
    client = Client({("GET", ONE): looks, ("POST", ENDPOINTS): [made]})
    with pytest.raises(error) as raised:
        endpoints(client).reach(request(serving()), change=True)
    assert raised.value.reason == reason  # type: ignore[attr-defined]


def test_an_endpoint_that_goes_while_it_is_changed_is_looked_at_again() -> None:
    look = shown(desired(serving()))
    client = Client({("GET", ONE): [look, GONE], ("PUT", f"{ONE}/config"): [Missing("gone")]})
    with pytest.raises(PlatformBusy):
        endpoints(client).reach(request(serving(NEW)), change=True)


def test_a_change_that_names_what_is_not_there_is_refused() -> None:
    look = shown(desired(serving()))
    client = Client({("GET", ONE): [look], ("PUT", f"{ONE}/config"): [Missing("no version 3")]})
    with pytest.raises(Refused, match="no version 3"):
        endpoints(client).reach(request(serving(NEW)), change=True)


def test_a_right_that_only_logging_takes_is_told_with_the_statement_that_grants_it() -> None:
    client = Client({("GET", ONE): [shown(desired(serving()))], ("PUT", f"{ONE}/ai-gateway"): [Denied("you may not.")]})
    with pytest.raises(Denied, match=r"you may not\. Logging requests takes") as raised:
        endpoints(client).reach(request(serving(), request_logging={}), change=True)
    assert "GRANT CREATE TABLE ON SCHEMA `main`.`ml` TO `app-id`" in raised.value.message


def test_a_look_changes_nothing() -> None:
    client = Client({("GET", ONE): [shown(desired(serving()))]})
    reached = endpoints(client).reach(request(serving(NEW)), change=False)
    assert reached.sent is None
    assert reached.differences
    assert client.asked == [("GET", ONE)]


def test_what_is_told_was_seen_before_anything_was_sent() -> None:
    client = Client({("GET", ONE): [shown(desired(serving()))]})
    reached = endpoints(client).reach(request(serving(), serving(NEW)), change=True)
    assert reached.endpoint is not None
    assert [each.served for each in reached.endpoint.served] == [OLD]
    assert reached.sent is not None
    assert reached.sent.startswith("serves ")
    assert client.asked == [("GET", ONE), ("PUT", f"{ONE}/config")]


def test_a_failure_that_is_shown_without_its_configuration_is_known_by_what_was_sent() -> None:
    alone, both = desired(serving()), request(serving(), serving(NEW))
    failed = shown(alone, update="UPDATE_FAILED")
    client = Client({("GET", ONE): [shown(alone), failed]})
    known = endpoints(client)
    known.reach(both, change=True)
    after = known.reach(both, change=True)
    assert after.sent is None
    assert after.endpoint is not None
    assert after.endpoint.failed
    # After a restart it is tried once more, and known from then on.
    restarted = endpoints(Client({("GET", ONE): [failed]}))
    assert restarted.reach(both, change=True).sent is not None
    assert restarted.reach(both, change=True).sent is None


def test_a_foreign_endpoint_is_looked_at_and_never_changed() -> None:
    client = Client({("GET", ONE): [shown(desired(serving()), tags=[{"key": "trainyard_uid", "value": "another"}])]})
    reached = endpoints(client).reach(request(serving(NEW)), change=True)
    assert reached.endpoint is not None
    assert not reached.endpoint.ours
    assert reached.sent is None
    assert "somebody else's" in reached.differences[0]
    assert client.asked == [("GET", ONE)]


def test_the_failure_of_an_update_is_told_to_who_asked_for_it_alone() -> None:
    both, alone = request(serving(), serving(NEW)), request(serving())
    look = shown(dict(alone.body), update="UPDATE_FAILED", pending=both.body["config"], states={NEW: "FAILED"})
    known = endpoints(Client({("GET", ONE): [look]}))
    for wanted, failed in ((both, f"{NEW}: it FAILED"), (alone, "")):
        endpoint = known.reach(wanted, change=False).endpoint
        assert endpoint is not None
        assert endpoint.failed == failed


def test_the_access_list_is_asked_for_only_where_rights_matter() -> None:
    path = "/api/2.0/permissions/serving-endpoints/e1"
    granted = request(serving(), permissions=[{"group": "analysts", "level": "CAN_QUERY"}])
    client = Client({("GET", ONE): [shown(desired(serving()))], ("GET", path): [{"access_control_list": []}]})
    reached = endpoints(client).reach(granted, change=False)
    assert ("GET", path) in client.asked
    assert reached.endpoint is not None
    (told,) = reached.endpoint.permissions
    assert not told.granted
    assert told.command is not None
    assert told.command.startswith("databricks permissions update serving-endpoints e1 --json '{")


def test_the_deletion_of_what_is_gone_or_another_s_is_no_error() -> None:
    look = shown(desired(serving()))
    assert not endpoints(Client({("GET", ONE): [GONE]})).delete("team-a-wine", UID)
    client = Client({("GET", ONE): [look]})
    assert not endpoints(client).delete("team-a-wine", "another")
    assert client.asked == [("GET", ONE)]
    assert not endpoints(Client({("GET", ONE): [look], ("DELETE", ONE): [GONE]})).delete("team-a-wine", UID)
    assert endpoints(Client({("GET", ONE): [look]})).delete("team-a-wine", UID)


def test_an_endpoint_is_there_whosever_it_is() -> None:
    client = Client({("GET", ONE): [shown(desired(serving()))]})
    assert endpoints(client).exists("team-a-wine", UID)
    assert not endpoints(client).exists("team-a-wine", "another")
    assert endpoints(client).exists("team-a-wine", None)
    assert not endpoints(Client({("GET", ONE): [GONE]})).exists("team-a-wine", None)


def test_an_endpoint_that_still_serves_what_another_had_there_is_given_back() -> None:
    look = shown(desired(serving()))
    look["tags"] = [*look["tags"], {"key": "trainyard_adopted", "value": "true"}, {"key": "owner", "value": "bob"}]
    client = Client({("GET", ONE): [look]})
    assert endpoints(client).delete("team-a-wine", UID)
    assert client.asked == [("GET", ONE), ("PATCH", f"{ONE}/tags")]


def test_an_endpoint_is_not_given_back_while_an_update_may_still_bring_what_is_ours() -> None:
    look = shown(desired(serving()), update="IN_PROGRESS", pending=desired(serving(NEW))["config"])
    look["tags"] = [*look["tags"], {"key": "trainyard_adopted", "value": "true"}]
    client = Client({("GET", ONE): [look]})
    with pytest.raises(PlatformBusy, match="given back after that"):
        endpoints(client).delete("team-a-wine", UID)
    assert client.asked == [("GET", ONE)]


def test_an_endpoint_of_another_namespace_is_not_taken_over() -> None:
    wanted = request(serving(), adopt=True)
    look = shown(desired(serving()))
    look["tags"] = [{"key": "trainyard_uid", "value": "x"}, {"key": "trainyard_namespace", "value": "team-b"}]
    client = Client({("GET", ONE): [look]})
    with pytest.raises(Refused) as raised:
        endpoints(client).reach(wanted, change=True)
    assert raised.value.reason == "EndpointNameTaken"
    assert {method for method, _ in client.asked} == {"GET"}


ANSWERS: list[tuple[int, bytes, list[object] | None]] = [
    (200, b'{"predictions": [1, "a", null]}', [1, "a", None]),
    (200, b'{"predictions": {"a": 1}}', None),
    (200, b'{"choices": []}', None),
    (200, b"[1]", None),
    (200, b"<html>", None),
    (200, b"[" * 100_000, None),
    (400, b'{"predictions": [1]}', None),
    (503, b'{"error_code": "TEMPORARILY_UNAVAILABLE"}', None),
    (429, b"", None),
]


@pytest.mark.parametrize(("status", "content", "predictions"), ANSWERS)
def test_any_answer_of_a_model_is_an_answer(status: int, content: bytes, predictions: list[object] | None) -> None:
    client = Client({})
    client.plain = lambda _method, _path: answer(status, content)
    scored = endpoints(client).score("a/b", "m 1", [{"x": 1}], seconds=1)
    assert (scored.status, scored.predictions) == (status, predictions)
    assert len(scored.text) <= SHOWN
    assert client.asked == [("POST", "/serving-endpoints/a%2Fb/served-models/m%201/invocations")]


def test_tokens_in_an_answer_are_blanked_out() -> None:
    client = Client({})
    client.plain = lambda _method, _path: answer(500, b"Bearer abcdefgh failed")
    assert "abcdefgh" not in endpoints(client).score("wine", None, [], seconds=1).text


@pytest.mark.parametrize(("status", "error"), [(403, Denied), (500, Unreachable), (429, Unreachable)])
def test_measurements_that_can_not_be_had_are_an_error(status: int, error: type[Exception]) -> None:
    client = Client({})
    client.plain = lambda _method, _path: answer(status, b'{"error_code": "PERMISSION_DENIED", "message": "no"}')
    with pytest.raises(error):
        endpoints(client).measured("wine", "m", datetime.now(UTC), 95)


def test_an_endpoint_without_measurements_tells_none() -> None:
    client = Client({})
    client.plain = lambda _method, _path: answer(404, b'{"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "no"}')
    assert endpoints(client).measured("wine", "m", datetime.now(UTC), 95) == Measured()


def test_each_minute_of_a_step_is_kept_while_it_is_held_and_trouble_with_it_is_no_trouble() -> None:
    both = request(serving(), serving(NEW), traffic={OLD: 50, NEW: 50})
    client = Client({("GET", ONE): [shown(dict(both.body))]})
    counted = "".join(f'request_count_total{{served_model_name="{name}"}} 7\n' for name in (OLD, NEW))
    client.plain = lambda _method, _path: answer(200, counted.encode(), "text/plain")
    kept = endpoints(client)
    kept.reach(both, change=False)
    kept.reach(both, change=False)
    assert client.asked.count(("GET", f"{ONE}/metrics")) == 1, "once in a minute"
    client.plain = lambda _method, _path: answer(500, b"")
    assert endpoints(client).reach(both, change=False).differences == ()


def test_nothing_is_measured_while_one_has_all_requests() -> None:
    client = Client({("GET", ONE): [shown(desired(serving(), serving(NEW)))]})
    endpoints(client).reach(request(serving(), serving(NEW)), change=False)
    assert ("GET", f"{ONE}/metrics") not in client.asked


LONG = "x" * 20_000


@pytest.mark.parametrize(
    ("server", "build", "parts", "length"),
    [
        ("started\n", "", ["started"], 7),
        (Denied("no"), "built", ["built"], 5),
        (Missing("no"), Refused("no"), [], 0),
        (f"{LONG}end of server", f"{LONG}end of build", ["end of build", "end of server"], 8192),
        (LONG, "", ["xxx"], 8192),
    ],
)
def test_a_log_is_its_last_part_and_fits_into_a_status(server: Any, build: Any, parts: list[str], length: int) -> None:
    given = {f"{ONE}/served-models/m/logs": server, f"{ONE}/served-models/m/build-logs": build}
    client = Client(
        {("GET", path): [told if isinstance(told, Exception) else {"logs": told}] for path, told in given.items()}
    )
    text = endpoints(client).logs("team-a-wine", "m")
    assert [part for part in parts if part not in text] == []
    assert len(text) == length


def test_an_endpoint_reads_as_whoever_made_it(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Need] = []

    def findings(_client: Any, _principal: str, wanted: list[Need]) -> tuple[Finding, ...]:
        asked.extend(wanted)
        return ()

    monkeypatch.setattr(preflight, "findings", findings)
    assert endpoints(Client({})).preflight(request(serving())) == ()
    assert {each.holder for each in asked} == {"app-id"}
    assert needs.EXECUTE in {each.right for each in asked}


def malformed(**changes: Any) -> dict[str, Any]:
    return {**shown(desired(serving())), **changes}


MALFORMED = [
    malformed(tags="none"),
    malformed(state="READY"),
    malformed(config=[]) | {"config": ["x"]},
    malformed(config={"served_entities": ["x"]}),
    malformed(config={"traffic_config": {"routes": [{"served_entity_name": OLD, "traffic_percentage": None}]}}),
    ["no", "object"],
]


@pytest.mark.parametrize("look", MALFORMED)
def test_an_answer_of_another_shape_is_waited_with(look: Any) -> None:
    with pytest.raises(Unreachable) as raised:
        endpoints(Client({("GET", ONE): [look]})).reach(request(serving()), change=True)
    assert raised.value.reason == "PlatformAnswerMalformed"


@pytest.mark.parametrize("look", [malformed(tags="none"), ["no", "object"]])
def test_an_endpoint_of_another_shape_does_not_escape_its_deletion(look: Any) -> None:
    made = endpoints(Client({("GET", ONE): [look]}))
    for ask in (made.delete, made.exists):
        with pytest.raises(Unreachable) as raised:
            ask("team-a-wine", UID)
        assert raised.value.reason == "PlatformAnswerMalformed"

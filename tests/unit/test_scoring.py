"""Rows scored as the caller: what is sent, where, with which credential, and what is told when it goes wrong."""

import base64
import json
import shlex
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.unit.deployments import AZURE, AZURE_URL, DATABRICKS, deployment, endpoint, rolling, served
from tests.wire.answering import Answering, Asked, Told, serve_answers
from trainyard.cli.scoring import ROW_WIDTH, table
from trainyard.client import BadManifest, ClientError, NotAllowed, NotFound, ScoringFailed, Unreachable
from trainyard.client.scoring import azure, databricks, question, score
from trainyard.client.scoring.place import Place, place_of
from trainyard.client.scoring.rows import read_rows
from trainyard.client.scoring.sending import LARGEST_ANSWER, Answer, send
from trainyard.identity import clouds

ROWS = [{"hue": 1.0, "kind": "red"}, {"hue": 2.0, "ash": 3}]
SECRET = "token-that-nobody-may-see"


# --- rows


@pytest.mark.parametrize(
    "text", ['[{"a": 1}, {"a": 2}]', '{"a": 1}\n{"a": 2}\n', '\n{"a": 1}\n\n{"a": 2}', ' [{"a": 1},\n {"a": 2}]']
)
def test_rows_are_a_list_or_one_a_line(text: str) -> None:
    assert read_rows(text) == [{"a": 1}, {"a": 2}]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "there is nothing in it"),
        ("[]", "there is no row"),
        ("[1]", "row 1 is no object"),
        ('[{"a": 1}, {}]', "row 2 is no object"),
        ('{"a": 1}\nnonsense', "line 2 is no JSON"),
        ('[{"a": NaN}]', "row 1 holds what JSON can not say"),
        ("[" * 100_000, "is no JSON"),
    ],
)
def test_what_is_no_row_is_refused_by_its_place(text: str, words: str) -> None:
    with pytest.raises(BadManifest, match=words):
        read_rows(text, "rows.json")


def test_rows_go_to_each_platform_as_it_takes_them() -> None:
    assert json.loads(question.body_for("databricks", ROWS)) == {"dataframe_records": ROWS}
    assert json.loads(question.body_for("azureml", ROWS)) == {
        "input_data": {
            "columns": ["hue", "kind", "ash"],
            "index": [0, 1],
            "data": [[1.0, "red", None], [2.0, None, 3]],
        }
    }


@pytest.mark.parametrize("answer", [{"predictions": [1, 2]}, [1, 2]])
def test_predictions_are_read_as_either_platform_gives_them(answer: Any) -> None:
    assert question.predictions_in(answer, 2) == [1, 2]
    assert question.predictions_in(answer, 3) is None


@pytest.mark.parametrize("answer", [None, "1", {"predictions": {"a": 1}}, {"outputs": [1, 2]}])
def test_what_is_no_prediction_for_each_row_is_not_taken_for_one(answer: Any) -> None:
    assert question.predictions_in(answer, 2) is None


def test_the_table_has_a_line_for_each_row_and_no_control_sequence() -> None:
    lines = table([{"a": "\x1b[2Jx" * 50}, {"a": 2}], [0.5, {"class": "\x1b]0;owned\x07red"}])
    assert lines[0].split() == ["ROW", "INPUT", "PREDICTION"]
    assert "\x1b" not in "".join(lines)
    assert len(lines[1].split("   ")[1].strip()) <= ROW_WIDTH
    assert lines[2].endswith('{"class": "red"}') or "red" in lines[2]


# --- where


def test_databricks_is_asked_at_the_workspace_that_the_status_names() -> None:
    place = place_of(deployment("Ready", endpoint=endpoint()))
    assert (place.origin, place.url) == (DATABRICKS, f"{DATABRICKS}/serving-endpoints/team-wine/invocations")
    one = place_of(rolling(), "forest")
    assert one.url == f"{DATABRICKS}/serving-endpoints/team-wine/served-models/forest-bbbb/invocations"


def test_azure_ml_is_asked_at_its_scoring_host_and_picks_by_a_header() -> None:
    found = deployment(
        "Ready", endpoint=endpoint("azureml", tenant="t-1"), servedModels=[served("3", "forest-aaaa", 100, 100)]
    )
    place = place_of(found, "forest")
    assert (place.url, place.path.rpartition("/")[2], place.tenant) == (AZURE_URL, "team-wine", "t-1")
    assert place.origin + place.path == f"{AZURE}/onlineEndpoints/team-wine"
    assert question.headers_for(place)[question.PICK_HEADER] == "forest-aaaa"
    assert question.PICK_HEADER not in question.headers_for(place_of(found))


@pytest.mark.parametrize(
    "wrong",
    [
        endpoint(host="https://evil.example", url="https://evil.example/serving-endpoints/team-wine/invocations"),
        endpoint(url="https://evil.example/serving-endpoints/team-wine/invocations"),
        endpoint(url=f"{DATABRICKS}.evil.example/serving-endpoints/team-wine/invocations"),
        endpoint(url=f"http://{DATABRICKS.removeprefix('https://')}/serving-endpoints/team-wine/invocations"),
        endpoint(url=f"{DATABRICKS}@evil.example/x"),
        endpoint("azureml", url="https://evil.example/score"),
        endpoint("azureml", url="http://wine.westeurope.inference.ml.azure.com/score"),
        endpoint("azureml", url="https://wine.westeurope.inference.ml.azure.com.evil.example/score"),
        endpoint("azureml", url="https://management.azure.com/score"),
        endpoint("azureml", host="https://evil.example/subscriptions/x"),
        endpoint("azureml", host=DATABRICKS),
    ],
)
def test_no_other_host_is_ever_asked(wrong: dict[str, Any]) -> None:
    with pytest.raises(NotAllowed):
        place_of(deployment("Ready", endpoint=wrong))


def test_a_host_that_the_caller_allows_is_asked() -> None:
    own = "https://lakehouse.example:8443"
    found = deployment("Ready", endpoint=endpoint(host=own, url=f"{own}/serving-endpoints/team-wine/invocations"))
    assert place_of(found, allowed_hosts=["lakehouse.example:8443"]).origin == own


def test_what_is_not_served_is_told_with_what_is() -> None:
    with pytest.raises(NotFound, match=r"serves no tree; it serves forest \(forest-aaaa\), forest \(forest-bbbb\)"):
        place_of(rolling(), "tree")
    absent = rolling(servedModels=[served("4", "forest-bbbb", 0, 100, state="Absent")])
    with pytest.raises(NotFound, match="it serves nothing"):
        place_of(absent, "forest")
    with pytest.raises(NotFound, match=r"has no endpoint yet: it is Pending \(waits for the run\)"):
        place_of(deployment("Pending", None, "waits for the run"))


# --- as whom, on Databricks


def config_file(folder: Path, text: str) -> dict[str, str]:
    path = folder / "databrickscfg"
    path.write_text(text)
    return {"DATABRICKS_CONFIG_FILE": str(path)}


PROFILES = (
    f"[DEFAULT]\nhost = https://adb-2.2.azuredatabricks.net\ntoken = t\n[wine]\nhost = {DATABRICKS}/\ntoken = %x\n"
)


def test_the_profile_of_that_workspace_is_used(tmp_path: Path) -> None:
    assert databricks.profile_for(DATABRICKS, config_file(tmp_path, PROFILES)) == "wine"
    bare = config_file(tmp_path, f"[DEFAULT]\nhost = {DATABRICKS.removeprefix('https://')}\n")
    assert databricks.profile_for(DATABRICKS, bare) == "DEFAULT"


def test_the_environment_is_used_where_it_names_that_workspace(tmp_path: Path) -> None:
    environment = config_file(tmp_path, PROFILES) | {"DATABRICKS_HOST": DATABRICKS, "DATABRICKS_TOKEN": "t"}
    assert databricks.profile_for(DATABRICKS, environment) is None


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({"DATABRICKS_HOST": "https://adb-2.2.azuredatabricks.net", "DATABRICKS_TOKEN": "t"}, "DATABRICKS_HOST is"),
        ({"DATABRICKS_TOKEN": "t"}, "DATABRICKS_TOKEN is set, and nothing says for which host"),
        ({"ARM_CLIENT_ID": "c"}, "ARM_CLIENT_ID is set"),
        ({"DATABRICKS_TOKEN": "t", "DATABRICKS_CONFIG_PROFILE": "wine"}, "nothing says for which host"),
        ({"DATABRICKS_CONFIG_PROFILE": "DEFAULT"}, "is for https://adb-2.2"),
        ({"DATABRICKS_CONFIG_PROFILE": "none"}, "is for no host"),
        ({"DATABRICKS_HOST": DATABRICKS, "DATABRICKS_CONFIG_PROFILE": "DEFAULT"}, "is for https://adb-2.2"),
        ({"DATABRICKS_CONFIG_FILE": "/nowhere"}, "databricks auth login --host"),
    ],
)
def test_a_credential_for_another_workspace_is_never_used(
    tmp_path: Path, environment: dict[str, str], words: str
) -> None:
    with pytest.raises(NotAllowed, match=words):
        databricks.profile_for(DATABRICKS, config_file(tmp_path, PROFILES) | environment)


# --- what is sent, and what is told of the answer


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Answering]:
    with serve_answers(tmp_path) as running:
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(running.ca_file))
        yield running


def test_the_credential_goes_as_given_also_where_a_netrc_has_another(
    server: Answering, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine localhost login eve password other\n")
    monkeypatch.setenv("NETRC", str(netrc))
    server.answer = lambda asked: Told(200, b"[1]")
    answer = send("POST", f"{server.origin}/score", {"Authorization": f"Bearer {SECRET}"}, 5, body=b"{}")
    assert answer.json() == [1]
    (asked,) = server.asked
    assert asked.headers["Authorization"] == f"Bearer {SECRET}"


def test_no_redirect_is_followed(server: Answering) -> None:
    server.answer = lambda asked: Told(307, headers={"Location": f"{server.origin}/elsewhere"})
    with pytest.raises(Unreachable, match="redirects, which is never followed"):
        send("POST", f"{server.origin}/score", {"Authorization": f"Bearer {SECRET}"}, 5)
    assert [asked.path for asked in server.asked] == ["/score"]


def test_an_answer_that_does_not_come_is_not_waited_for_longer(server: Answering) -> None:
    def slowly(asked: Asked) -> Told:
        time.sleep(1.5)
        return Told(200, b"[1]")

    server.answer = slowly
    with pytest.raises(Unreachable, match="did not answer within"):
        send("POST", f"{server.origin}/score", {}, 0.5)


def test_an_answer_is_read_as_far_as_an_answer_may_go(server: Answering, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trainyard.client.scoring.sending.LARGEST_ANSWER", 1000)
    assert LARGEST_ANSWER > 1000
    server.answer = lambda asked: Told(200, b"x" * 2000)
    with pytest.raises(Unreachable, match="more than 1000 bytes"):
        send("POST", f"{server.origin}/score", {}, 5)


def answered(status: int, body: Any) -> Answer:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Answer(status, {}, raw, 0.1, (SECRET.encode(),))


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"error_code": "BAD_REQUEST", "message": "no such column"}, "BAD_REQUEST: no such column"),
        ({"error": {"code": "UserError", "message": "no\nsuch column"}}, "UserError: no such column"),
        ({"message": "no such column"}, "no such column"),
        (b"<html>no</html>", "<html>no</html>"),
        ({"message": f"you sent {SECRET}"}, "you sent [token]"),
    ],
)
def test_an_errors_sentence_is_told_without_the_credential(body: Any, words: str) -> None:
    assert answered(400, body).words() == words


AT_DATABRICKS = Place("databricks", DATABRICKS, "team-wine", f"{DATABRICKS}/x")


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, ScoringFailed),
        (401, NotAllowed),
        (403, NotAllowed),
        (404, NotFound),
        (424, ScoringFailed),
        (429, Unreachable),
        (500, ScoringFailed),
        (503, Unreachable),
    ],
)
def test_each_refusal_is_the_error_of_what_has_to_be_done(
    monkeypatch: pytest.MonkeyPatch, status: int, kind: type[ClientError]
) -> None:
    monkeypatch.setattr(databricks, "who", lambda place, proof: None)
    error = score.refused(
        deployment("Ready", endpoint=endpoint()), AT_DATABRICKS, {}, answered(status, {"message": "no"})
    )
    assert type(error) is kind
    assert "no" in error.message


def test_a_missing_right_on_databricks_comes_with_the_change_that_grants_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(databricks, "who", lambda place, proof: {"user": "o'neil@example.com"})
    found = deployment(
        "Ready", endpoint=endpoint(), spec={"permissions": [{"group": "analysts", "level": "CAN_QUERY"}]}
    )
    error = score.refused(found, AT_DATABRICKS, {}, answered(403, {"message": "no"}))
    assert "kubectl patch modeldeployment wine -n team --type=merge -p " in error.message
    patch = json.loads(shlex.split(error.message.split("runs: ", 1)[1])[-1])
    assert patch["spec"]["permissions"] == [
        {"group": "analysts", "level": "CAN_QUERY"},
        {"user": "o'neil@example.com", "level": "CAN_QUERY"},
    ]


def test_a_missing_right_on_azure_ml_comes_with_the_role_assignment() -> None:
    place = place_of(deployment("Ready", endpoint=endpoint("azureml")))
    claims = base64.urlsafe_b64encode(json.dumps({"oid": "o-1", "idtyp": "app"}).encode()).decode().rstrip("=")
    command = score.grant(deployment(), place, {"Authorization": f"Bearer {claims}.{claims}.sig"})
    assert command == (
        'az role assignment create --role "AzureML Data Scientist" --assignee-object-id o-1 '
        f"--assignee-principal-type ServicePrincipal --scope {place.path}"
    )
    assert "--assignee YOU" in azure.grant(place, "opaque")


@pytest.fixture
def proofs(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The scopes that tokens were asked for."""
    asked: list[str] = []

    def token(place: Place, scope: str) -> str:
        asked.append(scope)
        return f"{SECRET}-{len(asked)}"

    monkeypatch.setattr(azure, "token", token)
    return asked


def at_azure(server: Answering, auth: str = "Token") -> Place:
    """An endpoint whose status names that host; the server is in place of Azure Resource Manager."""
    return Place(
        "azureml", server.origin, "team-wine", AZURE_URL, auth=auth, path="/endpoint", cloud=clouds.AZURE_PUBLIC
    )


@pytest.mark.parametrize("auth", ["Token", "Key"])
def test_no_credential_for_an_endpoint_goes_where_its_platform_does_not_say_that_it_is(
    server: Answering, proofs: list[str], auth: str
) -> None:
    theirs = {"properties": {"scoringUri": "https://eve.westeurope.inference.ml.azure.com/score"}}
    server.answer = lambda asked: Told(200, json.dumps(theirs).encode())
    with pytest.raises(NotAllowed, match=r"is asked at 'https://eve\..* nothing is sent there"):
        azure.credential(at_azure(server, auth))
    assert proofs == [clouds.AZURE_PUBLIC.arm_scope]
    assert [asked.method for asked in server.asked] == ["GET"]


def test_the_endpoint_that_its_platform_names_gets_the_token_for_it(server: Answering, proofs: list[str]) -> None:
    server.answer = lambda asked: Told(200, json.dumps({"properties": {"scoringUri": AZURE_URL}}).encode())
    assert azure.credential(at_azure(server)) == {"Authorization": f"Bearer {SECRET}-2"}
    assert proofs == [clouds.AZURE_PUBLIC.arm_scope, clouds.AZURE_PUBLIC.ml_scope]
    (asked,) = server.asked
    assert asked.headers["Authorization"] == f"Bearer {SECRET}-1"


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (Told(403, b'{"error": {"message": "no"}}'), NotAllowed),
        (Told(404, b"{}"), NotFound),
        (Told(500, b"{}"), ScoringFailed),
        (Told(200, b"[]"), ScoringFailed),
        (Told(200, b'{"properties": {"scoringUri": 1}}'), ScoringFailed),
    ],
)
def test_where_the_platform_does_not_say_where_an_endpoint_is_nothing_is_sent(
    server: Answering, proofs: list[str], answer: Told, kind: type[ClientError]
) -> None:
    server.answer = lambda asked: answer
    with pytest.raises(kind):
        azure.credential(at_azure(server))
    assert len(proofs) == 1


def test_an_answer_that_holds_too_few_predictions_is_no_answer(
    server: Answering, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(databricks, "credential", lambda place: {"Authorization": f"Bearer {SECRET}"})
    host = server.origin
    found = deployment("Ready", endpoint=endpoint(host=host, url=f"{host}/serving-endpoints/team-wine/invocations"))
    server.answer = lambda asked: Told(200, b'{"predictions": [1]}')
    with pytest.raises(ScoringFailed, match="not one prediction for each of the 2 rows"):
        score.score(found, ROWS, None, 5, allowed_hosts=[f"localhost:{server.port}"])
    assert score.score(found, ROWS[:1], None, 5, allowed_hosts=[f"localhost:{server.port}"]).predictions == [1]

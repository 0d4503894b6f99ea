"""Logs: lines that a collector reads, and never a token."""

import json
import logging
from collections.abc import Iterator
from typing import Any, Literal

import pytest
import structlog

from trainyard.telemetry import logs

JWT = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJ0cmFpbmVyIn0.c2lnbmF0dXJl"


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    levels = {name: logging.getLogger(name).level for name in logs._QUIET}
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    for name, quiet in levels.items():
        logging.getLogger(name).setLevel(quiet)
    structlog.reset_defaults()


def written(capsys: pytest.CaptureFixture[str], form: Literal["json", "console"] = "json") -> list[str]:
    out, err = capsys.readouterr()
    assert out == "", "stdout belongs to the audit log"
    return err.splitlines()


@pytest.mark.parametrize(
    "text",
    [JWT, f"Authorization: Bearer {JWT}", "header bearer dapi0123456789abcdef!", f"got {JWT}, twice: {JWT}"],
)
def test_a_token_in_any_text_of_a_record_is_blotted_out(text: str) -> None:
    found: Any = logs.redact(None, "info", {"event": text, "error": text, "count": 3})
    for part in ("eyJ", "dapi", "c2lnbmF0dXJl"):
        assert part not in str(found)
    assert found["count"] == 3
    assert "[redacted]" in found["event"]


@pytest.mark.parametrize(
    "kept",
    [
        "dapi0123456789abcdef0123456789abcdef-3",
        "dose0123456789abcdef0123456789abcdef",
        "Basic Y2xpZW50OnNlY3JldC13b3Jkcw==",
        "-----BEGIN RSA PRIVATE KEY-----\nMIIEpAIBAAKCAQEA\n-----END RSA PRIVATE KEY-----",
        "-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBgkqhk",
    ],
)
def test_what_a_secret_may_hold_is_blotted_out(kept: str) -> None:
    told = str(logs.redact(None, "info", {"event": f"got {kept} and no more"})["event"])
    assert told.startswith("got [redacted]")
    for part in ("0123456789", "Y2xpZW50", "MII"):
        assert part not in told


def test_plain_words_stay_as_they_are() -> None:
    event = {"event": "the bearer", "error": "eyJ is how a JWT begins, basic words and a dose of dapi"}
    assert logs.redact(None, "info", dict(event)) == event


def test_a_record_is_one_json_line_on_stderr_with_time_and_level(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("json")
    structlog.get_logger("trainyard.test").info("phase", run="team/iris")
    (line,) = written(capsys)
    record = json.loads(line)
    assert (record["event"], record["run"], record["level"]) == ("phase", "team/iris", "info")
    assert record["timestamp"].endswith("Z")


def test_records_of_libraries_take_the_same_way_and_lose_their_tokens_too(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("json")
    logging.getLogger("kopf").info("chatter that nobody needs")
    logging.getLogger("kopf").warning("sent %s", JWT)
    (line,) = written(capsys)
    assert "eyJ" not in line
    assert json.loads(line)["level"] == "warning"


@pytest.mark.parametrize("form", ["json", "console"])
def test_a_token_in_a_traceback_is_blotted_out(
    capsys: pytest.CaptureFixture[str], form: Literal["json", "console"]
) -> None:
    logs.configure(form)
    try:
        int(f"refused {JWT}")
    except ValueError:
        structlog.get_logger("trainyard.test").exception("failed")
    text = "\n".join(written(capsys, form))
    assert "refused" in text
    assert "eyJ" not in text

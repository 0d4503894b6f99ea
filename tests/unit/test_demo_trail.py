"""What the demo shows of its audit trail."""

import io
from typing import Any

from rich.console import Console

from demo_trail import MOST, Story, now, show_audit, told


def request(
    number: int, name: str = "wine", action: str = "change", method: str = "PUT", kind: str = "ModelDeployment"
) -> dict[str, Any]:
    about = {"kind": kind, "name": name}
    at = f"2026-11-23T12:00:{number:02d}.000Z"
    path = "/subscriptions/s/resourceGroups/g/providers/Microsoft.MachineLearningServices/workspaces/w/jobs/1"
    return {
        "event": "request",
        "id": f"{name}-{number}-{action}-{method}",
        "time": at,
        "resource": about,
        "action": action,
        "method": method,
        "path": path,
    }


RUN = [request(at, "forest", "submit", "POST", "MLTrainingRun") for at in range(3)]
SWEEPS = [request(at, "forest", "sweep", "GET", "MLTrainingRun") for at in range(30)]
CANARY = [request(at) for at in range(10, 15)]
LOOKS = [request(at, method="GET") for at in range(10, 40)]
ALL = [*RUN, *SWEEPS, *CANARY, *LOOKS, request(50)]
STORIES = [
    Story("MLTrainingRun", "forest"),
    Story("ModelDeployment", "wine", "2026-11-23T12:00:10.000", "2026-11-23T12:00:20.000", changes=True),
]


def test_the_stories_are_shown_without_looks_and_everything_else_is_counted() -> None:
    shown, rest = told(ALL, STORIES)
    assert shown == [*RUN, *CANARY]
    assert rest == {"sweep": 30, "change": 31}
    assert len(shown) + rest.total() == len(ALL)


def test_a_long_story_is_cut_and_its_rest_counted() -> None:
    many = [request(at, "forest", "submit", "POST", "MLTrainingRun") for at in range(59)]
    shown, rest = told(many, STORIES)
    assert (len(shown), rest["submit"]) == (MOST, 59 - MOST)


def test_a_moment_is_told_as_records_tell_it() -> None:
    assert len(now()) == len("2026-11-23T12:00:10.000")
    assert Story("k", "n", since=now()).since > "2026"


def test_each_request_has_a_line_with_its_answer() -> None:
    out = io.StringIO()
    answer = {"event": "response", "id": RUN[0]["id"], "status": 201, "duration_ms": 7}
    show_audit(Console(file=out, width=150), [*ALL, answer], STORIES)
    text = out.getvalue()
    assert "mltr forest" in text
    assert "POST /WORKSPACE/jobs/1" in text
    assert "201" in text
    assert "and 61 requests more: 31 change, 30 sweep" in text
    assert len(text.splitlines()) < 20

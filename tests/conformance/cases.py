"""The one list of manifests, and what has to become of each, whatever the platform.

Only fields and words that hold on every platform: what a platform needs beside them its driver knows. Here are the runs
that end by themselves; stopped.py has those that are stopped, or are not started. Read by test_conformance.py.
"""

from tests.conformance.case import ENDED_BADLY, ENDED_WELL, NAME, NODE_LOST, QUICK, SOON, TWO_ATTEMPTS, Case, model
from tests.conformance.programs import ARGUMENTS, FAILS, HELPED, ODD, SCORES, TRAINS
from tests.conformance.steps import lay_code, lay_data, scores_are_there
from tests.conformance.stopped import STOPPED
from tests.platforms.base import End, Pretence

ENDED = (
    Case(
        "trains, measures and registers",
        ENDED_WELL,
        "Succeeded",
        {
            "entrypoint": {"args": ["$(params.rounds)", "$(params.seed)"]},
            "params": {"rounds": "12", "seed": "7"},
            "environment": {"runtime": "sklearn"},
            "model": model("trained"),
            "experiment": "wine",
            "tags": {"team": "wine"},
        },
        TRAINS,
        pretences=(),
        attempts=("Succeeded",),
        results=("succeeded",),
        paid=1,
        model=("trained", "1", "challenger"),
        metrics=frozenset({"loss", "worst", "undefined"}),
        log=("says: trained with loss",),
    ),
    Case(
        "arguments and parameters arrive as they were written",
        ENDED_WELL,
        "Succeeded",
        {
            "entrypoint": {"pythonFile": "main.py", "args": [*ODD, "$(params.answer)", "$(params.odd)"]},
            "params": {"answer": "42", "odd": "it's"},
        },
        ARGUMENTS,
        pretences=(),
        attempts=("Succeeded",),
        results=("succeeded",),
        paid=1,
        log=(f"says: {NAME} 1 {len(ODD) + 3}",),
    ),
    Case(
        "a module of a ConfigMap with another file beside it",
        ENDED_WELL,
        "Succeeded",
        {"entrypoint": {"module": "train"}},
        {"configMap": {"name": "code"}},
        pretences=(),
        first=lay_code(**HELPED),
        attempts=("Succeeded",),
        results=("succeeded",),
        paid=1,
        log=("says: 42",),
    ),
    Case(
        "data is read and written",
        ENDED_WELL,
        "Succeeded",
        {
            "inputs": {"wines": {"uri": "data://data/wines"}},
            "outputs": {"scores": {"uri": "data://data/scores/$(run.namespace)/$(run.attempt)"}},
        },
        SCORES,
        pretences=(),
        first=lay_data,
        attempts=("Succeeded",),
        results=("succeeded",),
        paid=1,
        check=scores_are_there,
        outputs=("scores",),
        log=("says: 2 wines",),
    ),
    Case(
        "code fails",
        ENDED_BADLY,
        "CodeFailed",
        {},
        FAILS,
        pretences=(),
        attempts=("CodeFailed",),
        results=("failed",),
        paid=1,
        says=("ValueError: no rows left", "in load"),
        log=("says: loading",),
    ),
    Case(
        "a package that is not there",
        ENDED_BADLY,
        "PackageInstallFailed",
        {"environment": {"pip": ["no-such-package-at-all==1.0"]}},
        pretences=(),
        attempts=("PackageInstallFailed",),
        results=("failed",),
        differs=("paid",),  # where the software is built before there are machines, it costs nothing
        says=("no-such-package-at-all",),
    ),
    Case(
        "every phase on the way is told",
        "Pending? Submitting Queued BuildingEnvironment Running Succeeded",
        "Succeeded",
        pretences=(Pretence(stages=(("queued", 3), ("starting", 3), ("running", 3))),),
        attempts=("Succeeded",),
        results=("succeeded",),
        paid=1,
    ),
    Case(
        "an infrastructure failure is retried",
        f"{TWO_ATTEMPTS} Succeeded",
        "Succeeded",
        {"retry": SOON},
        pretences=(Pretence(end=NODE_LOST, attempt=1), QUICK),
        attempts=("InfrastructureFailed", "Succeeded"),
        results=("failed", "succeeded"),
        paid=2,
    ),
    Case(
        "retries end at the limit",
        f"{TWO_ATTEMPTS} Failed",
        "InfrastructureFailed",
        {"retry": SOON},
        pretences=(Pretence(end=NODE_LOST),),
        attempts=("InfrastructureFailed", "InfrastructureFailed"),
        results=("failed", "failed"),
        paid=2,
    ),
    Case(
        "failed code is not retried",
        ENDED_BADLY,
        "CodeFailed",
        {"retry": SOON},
        pretences=(Pretence(end=End("code", "ValueError: no rows left", "ValueError: no rows left")),),
        attempts=("CodeFailed",),
        results=("failed",),
        paid=1,
    ),
    Case(
        "failed code is retried where any failure is",
        f"{TWO_ATTEMPTS} Succeeded",
        "Succeeded",
        {"retry": SOON | {"when": "Any"}},
        pretences=(Pretence(end=End("code"), attempt=1), QUICK),
        attempts=("CodeFailed", "Succeeded"),
        results=("failed", "succeeded"),
        paid=2,
    ),
)

CASES = (*ENDED, *STOPPED)

"""The one list of manifests, and what has to become of each, whatever the platform.

Only fields and words that hold on every platform: what a platform needs beside them its driver knows. A case without
pretences really runs its code. Read by test_conformance.py.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from stand import Team, wait_for
from tests.e2e.scene import FINAL, Run, Scene
from tests.platforms.base import FOREVER, WELL, End, PlatformDriver, Pretence

NAME = "train"
QUICK = Pretence(stages=(("starting", 0.1), ("running", 0.2)))
NODE_LOST = End("infrastructure", "node lost")
# May be over before anybody looks.
PASSED = ("Pending", "Submitting", "Queued", "BuildingEnvironment", "Running", "Cancelling")
TRUE_IN = {
    "Pending": {"Reconciling"},
    "Stalled": {"Stalled"},
    "Running": {"Reconciling"},
    "Succeeded": {"Ready", "Complete"},
    "Failed": {"Stalled", "Failed"},
    "TimedOut": {"Stalled", "Failed"},
    "Cancelled": {"Stalled", "Failed"},
}

TRAINS = """
import os
import random
import sys

import mlflow
import numpy

rounds, seed = (int(arg) for arg in sys.argv[1:])
dice = random.Random(seed)
losses = [1 / (1 + dice.random() + step) for step in range(rounds)]


class Constant(mlflow.pyfunc.PythonModel):
    def predict(self, context, model_input):
        return [losses[-1]] * len(model_input)


with mlflow.start_run():
    mlflow.log_params({"rounds": rounds, "seed": seed})
    for step, loss in enumerate(losses):
        mlflow.log_metric("loss", loss, step=step)
    mlflow.log_metric("worst", max(losses))
    mlflow.log_metric("undefined", float("nan"))
    mlflow.pyfunc.log_model(
        "model",
        python_model=Constant(),
        pip_requirements=[],
        signature=mlflow.models.infer_signature(numpy.zeros((1, 2)), numpy.zeros(1)),
        registered_model_name=os.environ["TRAINYARD_MODEL_NAME"],
    )
print("says: trained with loss", losses[-1])
"""
ODD = [
    "a b",
    "$$(raw)",
    "`id`",
    "'single'",
    '"double"',
    "$HOME",
    "back\\slash",
    "*",
    "two\nlines",
    "ünï",
    "",
    "; exit 3",
    "${{inputs.x}}",
]
ARGUMENTS = f"""
import os
import sys

assert sys.argv[1:] == {[arg.replace("$$(", "$(") for arg in ODD] + ["42", "it's"]!r}, sys.argv
print("says:", os.environ["TRAINYARD_NAME"], os.environ["TRAINYARD_ATTEMPT"], len(sys.argv))
"""
FAILS = """
def load():
    raise ValueError("no rows left")


print("says: loading")
load()
"""


def model(name: str) -> dict[str, Any]:
    """spec.model. Each case that makes a version has a model of its own."""
    return {"name": name, "alias": "challenger", "tags": {"data": "wine"}}


@dataclass
class Act:
    """What the steps of a case may use."""

    scene: Scene
    platform: PlatformDriver
    team: Team
    run: Run


Step = Callable[[Act], None]


@dataclass(frozen=True)
class Case:
    """A manifest, what is done to it, and what becomes of it.

    `phases` in order; one with a question mark may be missed. `first` is done before the resource is made, `then` after
    that. The run is looked at when it is in one of `ends`, or gone if it is not `left`. `says` has to stand in
    what it told people, `workspace` are fields of its workspace. `differs` are fields of the observation that platforms
    may differ in, with the reason beside it.
    """

    name: str
    phases: str
    reason: str
    spec: Mapping[str, Any] = field(default_factory=dict)
    code: str | Mapping[str, Any] = "print('hello')"
    pretences: tuple[Pretence, ...] = (QUICK,)
    workspace: Mapping[str, Any] = field(default_factory=dict)
    asks: Callable[[PlatformDriver], Mapping[str, Any]] = lambda _: {}
    offers: Callable[[PlatformDriver], Mapping[str, Any]] = lambda _: {}
    first: Step | None = None
    then: Step | None = None
    attempts: tuple[str | None, ...] = ()
    results: tuple[str | None, ...] = ()
    paid: int = 0
    differs: tuple[str, ...] = ()
    says: tuple[str, ...] = ()
    left: bool = True
    model: tuple[str, str, str | None] | None = None
    metrics: frozenset[str] = frozenset()
    log: tuple[str, ...] = ()
    ends: tuple[str, ...] = ()

    def __str__(self) -> str:
        return self.name

    @property
    def last(self) -> str:
        """The last of the phases."""
        return self.phases.split()[-1]

    @property
    def rests_in(self) -> tuple[str, ...]:
        """The phases that it may come to rest in: the last one unless told."""
        return self.ends or (self.last,)


def cancel(act: Act) -> None:
    act.run.until("Running").change(cancel=True)


def cancel_waiting(act: Act) -> None:
    act.run.because("WorkspaceNotFound").change(cancel=True)


def delete(act: Act) -> None:
    act.run.until("Running").delete()


def suspend_and_resume(act: Act) -> None:
    act.run.until("Running").change(suspend=True)
    act.run.until("Suspended").change(suspend=False)


def cancel_there(act: Act) -> None:
    act.run.until("Running")
    act.platform.end(act.run.only_remote().id, End("cancelled"))


def vanish(act: Act) -> None:
    act.run.until("Running")
    act.platform.vanish(act.run.only_remote().id)


def puzzle(act: Act) -> None:
    act.run.until("Running")
    remote = act.run.only_remote().id
    act.platform.show(remote, "HIBERNATING")
    act.run.because("RemoteStateUnknown")
    act.platform.show(remote, None)
    act.run.because("Running")
    act.platform.end(remote, WELL)


def lay_code(act: Act) -> None:
    act.scene.config_map(act.team.namespace, "code", {"main.py": "print('hello')"})


def wait_for_code(act: Act) -> None:
    act.run.because("CodeNotFound")


def take_right(act: Act) -> None:
    act.platform.take_right(act.team)


def give_right(act: Act) -> None:
    act.run.until("Stalled")
    assert act.run.remote() == []
    act.platform.give_right(act.team)


def name_class(act: Act) -> None:
    act.run.until("Stalled")
    body = {"spec": {"computeClasses": {"huge": act.platform.present_compute()}}}
    act.scene.patch("mlworkspace", act.run.namespace, act.team.workspace, body)


def make_again(act: Act) -> None:
    """The object is lost, and made again from the same manifest."""
    act.run.until("Running")
    act.run.change(deletionPolicy="Orphan")
    manifest = act.run.now()
    act.run.delete()
    act.run.gone()
    metadata = {"name": manifest["metadata"]["name"], "namespace": act.run.namespace}
    act.scene.create(act.run.namespace, "mltrainingruns", manifest | {"metadata": metadata, "status": {}})
    act.run.until("Running")
    act.platform.end(act.run.only_remote().id)


def wait_until_gone(act: Act) -> None:
    act.run.until(*FINAL)
    wait_for("the resource to be gone", lambda: not act.run.now())


ENDED_WELL = "Pending? Submitting Queued? BuildingEnvironment? Running? Succeeded"
ENDED_BADLY = ENDED_WELL.replace("Succeeded", "Failed")
TWO_ATTEMPTS = (
    "Pending? Submitting Queued? BuildingEnvironment? Running? Pending Submitting Queued? BuildingEnvironment? Running?"
)
WHILE_RUNNING = "Pending? Submitting Queued? BuildingEnvironment? Running Cancelling?"
SOON = {"limit": 1, "backoffSeconds": 1}

CASES = (
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
    Case(
        "cancelled while running",
        f"{WHILE_RUNNING} Cancelled",
        "Cancelled",
        pretences=(FOREVER,),
        then=cancel,
        attempts=("Cancelled",),
        results=("cancelled",),
        paid=1,
    ),
    Case(
        "cancelled before its start",
        "Pending Cancelled",
        "Cancelled",
        {"workspaceRef": {"name": "not-there"}},
        then=cancel_waiting,
    ),
    Case(
        "cancelled by somebody on the platform",
        f"{WHILE_RUNNING} Cancelled",
        "CancelledOnPlatform",
        pretences=(FOREVER,),
        then=cancel_there,
        attempts=("CancelledOnPlatform",),
        results=("cancelled",),
        paid=1,
    ),
    Case(
        "the attempt takes too long",
        f"{WHILE_RUNNING} TimedOut",
        "AttemptTimedOut",
        {"attemptTimeoutSeconds": 3},
        pretences=(FOREVER,),
        attempts=("AttemptTimedOut",),
        results=("timed out",),
        paid=1,
    ),
    Case(
        "the whole takes too long",
        f"{WHILE_RUNNING} TimedOut",
        "TimedOut",
        {"timeoutSeconds": 12},
        pretences=(FOREVER,),
        attempts=("TimedOut",),
        results=("cancelled",),
        paid=1,
    ),
    Case(
        "it waits too long for compute",
        "Pending? Submitting Queued Cancelling? TimedOut",
        "QueueTimedOut",
        {"queueTimeoutSeconds": 2},
        pretences=(Pretence(stages=(("queued", 600),)),),
        attempts=("QueueTimedOut",),
        results=("cancelled",),
        differs=("paid",),  # a platform may charge for machines that it was about to give
    ),
    Case(
        "suspended and resumed",
        f"{WHILE_RUNNING} Suspended Pending? Submitting Queued? BuildingEnvironment? Running? Succeeded",
        "Succeeded",
        pretences=(Pretence(FOREVER.stages, attempt=1), QUICK),
        then=suspend_and_resume,
        attempts=("Suspended", "Succeeded"),
        results=("cancelled", "succeeded"),
        paid=2,
    ),
    Case(
        "deleted while running",
        WHILE_RUNNING,
        "Deleted",
        pretences=(FOREVER,),
        then=delete,
        attempts=(None,),
        results=("cancelled",),
        paid=1,
        left=False,
    ),
    Case(
        "deleted and left running",
        "Pending? Submitting Queued? BuildingEnvironment? Running",
        "Running",
        {"deletionPolicy": "Orphan"},
        pretences=(FOREVER,),
        then=delete,
        attempts=(None,),
        results=(None,),
        paid=1,
        left=False,
    ),
    Case(
        "made again with its submission key",
        "Pending? Submitting Queued? BuildingEnvironment? Running Pending? Submitting? Queued? Running? Succeeded",
        "Succeeded",
        {"submissionKey": "conformance-key"},
        pretences=(FOREVER,),
        then=make_again,
        attempts=("Succeeded",),
        results=("succeeded",),
        paid=1,
    ),
    Case(
        "deleted some time after its end",
        ENDED_WELL,
        "Succeeded",
        {"ttlSecondsAfterFinished": 1},
        then=wait_until_gone,
        attempts=("Succeeded",),
        results=("succeeded",),
        paid=1,
        left=False,
    ),
    Case(
        "only planned",
        "Pending? Succeeded",
        "Planned",
        {"planOnly": True, "model": model("planned")},
    ),
    Case(
        "the remote run vanishes",
        f"{WHILE_RUNNING} Failed",
        "RemoteRunVanished",
        pretences=(FOREVER,),
        then=vanish,
        attempts=("RemoteRunVanished",),
    ),
    Case(
        "a state that nobody knows is not an end",
        f"{WHILE_RUNNING} Succeeded",
        "Succeeded",
        pretences=(FOREVER,),
        then=puzzle,
        attempts=("Succeeded",),
        results=("succeeded",),
        paid=1,
    ),
    Case(
        "a model was asked for and none registered",
        ENDED_BADLY,
        "ModelNotRegistered",
        {"model": model("forgotten")},
        attempts=("ModelNotRegistered",),
        results=("succeeded",),
        paid=1,
    ),
    Case(
        "a right is missing, and then given",
        f"Pending? Stalled {ENDED_WELL}",
        "Succeeded",
        {"model": model("permitted")},
        first=take_right,
        then=give_right,
        attempts=("Succeeded",),
        results=("succeeded",),
        paid=1,
        model=("permitted", "1", "challenger"),
    ),
    Case(
        "a compute class that the workspace lacks, and then has",
        f"Pending? Stalled {ENDED_WELL}",
        "Succeeded",
        {"compute": {"class": "huge"}},
        then=name_class,
        attempts=("Succeeded",),
        results=("succeeded",),
        paid=1,
        says=("small",),
    ),
    Case(
        "a compute class whose machines are not there",
        "Pending? Stalled",
        "PermissionMissing",
        {"compute": {"class": "gone"}},
        offers=lambda platform: {"computeClasses": {"gone": platform.absent_compute()}},
        says=("spec.compute.class",),
    ),
    Case(
        "a runtime that the workspace lacks", "Pending? Stalled", "RuntimeUnknown", {"environment": {"runtime": "jax"}}
    ),
    Case(
        "a parameter that nobody gave",
        "Pending? Stalled",
        "ParameterUnknown",
        {"entrypoint": {"args": ["$(params.x)"]}},
    ),
    Case(
        "source that lacks the entrypoint is waited for",
        "Pending",
        "CodeNotFound",
        {"entrypoint": {"pythonFile": "a.py"}},
        {"configMap": {"name": "code"}},
        first=lay_code,
        then=wait_for_code,
        says=("a.py",),
    ),
    Case(
        "a data root that the workspace lacks",
        "Pending? Stalled",
        "DataRootUnknown",
        {"inputs": {"wines": {"uri": "data://attic/wines"}}},
    ),
    Case(
        "an identity that the workspace lacks",
        "Pending? Stalled",
        "RunAsUnknown",
        {"runAs": "somebody"},
    ),
)

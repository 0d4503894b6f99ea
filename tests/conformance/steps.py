"""What is done to the runs of the list, and where. A step returns when it has happened."""

from stand import wait_for
from tests.conformance.case import Act, Step
from tests.e2e.scene import FINAL
from tests.platforms.base import WELL, End


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


def lay_code(**files: str) -> Step:
    return lambda act: act.scene.config_map(act.team.namespace, "code", files)


def lay_data(act: Act) -> None:
    act.platform.put_data(act.team, "wines/wines.csv", b"merlot\nriesling\n")


def scores_are_there(act: Act) -> None:
    written = act.platform.data(act.team, f"scores/{act.run.namespace}/1/scores.csv")
    assert written == b"merlot,1\nriesling,1\n"


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

"""One list of deployments against every platform: each becomes what the list says, and on all the same."""

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from stand import stand
from tests.conformance.history import History
from tests.conformance.serving import DEPLOYMENTS, ServedCase, ServedObservation, play
from tests.conformance.test_conformance import fits
from tests.e2e.deployments import SERVING_FLAGS
from tests.platforms import NAMES
from trainyard_localcluster import LocalCluster

pytestmark = pytest.mark.timeout(1800)  # the first test waits for all of them on all platforms
FLAGS = {"poll_seconds": "0.3", "settle_seconds": "2", "recheck_seconds": "1", **SERVING_FLAGS}
AT_ONCE = 6
TRUE_IN = {"Pending": {"Reconciling"}, "Ready": {"Ready"}, "Expired": set()}  # the others: Stalled
each_deployment = pytest.mark.parametrize("case", DEPLOYMENTS, ids=str)
Look = Callable[[ServedCase, str], ServedObservation]


@pytest.fixture(scope="module")
def served(
    request: pytest.FixtureRequest, cluster: LocalCluster, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Look]:
    """What became of a deployment on a platform. All that were asked for begin when the first is looked at."""
    dir: Path = tmp_path_factory.mktemp("conformance-serving")
    begun: dict[tuple[str, str], Future[ServedObservation]] = {}
    with (
        stand(dir, "run", cluster) as made,
        History(cluster, dir, "modeldeployments") as history,
        made.operator("conformance-serving", None, **FLAGS) as operator,
        ThreadPoolExecutor(AT_ONCE) as pool,
    ):

        def begin(case: ServedCase, platform: str) -> Future[ServedObservation]:
            key = (case.name, platform)
            if key not in begun:
                begun[key] = pool.submit(play, case, platform, made, operator, history)
            return begun[key]

        for item in request.session.items:
            asked = getattr(item, "callspec", None)
            if asked is not None and isinstance(asked.params.get("case"), ServedCase):
                for platform in [asked.params["platform"]] if "platform" in asked.params else NAMES:
                    begin(asked.params["case"], platform)
        yield lambda case, platform: begin(case, platform).result()
        pool.shutdown(cancel_futures=True)


@each_deployment
@pytest.mark.parametrize("platform", NAMES)
def test_a_deployment_becomes_what_the_list_says(case: ServedCase, platform: str, served: Look) -> None:
    seen = served(case, platform)
    assert fits(seen.phases, case.phases), f"{seen.phases} for {case.phases}"
    assert (seen.reason, seen.outcomes, seen.failure) == (case.reason, case.outcomes, case.failure)
    assert seen.shares == case.shares
    assert seen.versions == tuple(case.shares), "what serves nobody costs on"
    true = {kind for kind, status in seen.conditions.items() if status == "True"}
    assert true == TRUE_IN.get(case.last, {"Stalled"}) | ({"Available"} if case.shares else set())


@each_deployment
def test_platforms_make_the_same_of_a_deployment(case: ServedCase, served: Look) -> None:
    first, *others = (served(case, platform).compared() for platform in NAMES)
    for other in others:
        assert other == first

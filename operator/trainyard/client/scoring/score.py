"""Scores rows at a deployment's endpoint as the caller. Called by Trainyard.score; what is told is for people."""

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainyard.client.deployment import Deployment
from trainyard.client.errors import BadManifest, ClientError, NotAllowed, NotFound, ScoringFailed, Unreachable
from trainyard.client.scoring import azure, databricks, question
from trainyard.client.scoring.place import Place, place_of
from trainyard.client.scoring.rows import Row, checked
from trainyard.client.scoring.sending import Answer, send
from trainyard.identity import clouds

# Seconds that the answer may take: a model that was scaled to zero has to start first.
SECONDS = 130.0


@dataclass(frozen=True)
class Scores:
    """What an endpoint predicted, one prediction for each row, in their order."""

    predictions: list[Any]
    endpoint: str
    served: str | None
    """What was asked for by name; None: whichever the shares gave."""
    seconds: float


def score(
    deployment: Deployment,
    rows: Sequence[Row],
    served: str | None,
    seconds: float,
    allowed_hosts: Sequence[str] = (),
    azure_clouds: Sequence[str | Path] = (),
) -> Scores:
    """Scores the rows. See Trainyard.score for what it raises."""
    given = checked(rows)
    if azure_clouds:
        try:
            clouds.install(clouds.read(Path(path)) for path in azure_clouds)
        except ValueError as error:
            raise BadManifest(str(error)) from error
    place = place_of(deployment, served, allowed_hosts)
    proof = databricks.credential(place) if place.platform == "databricks" else azure.credential(place)
    answer = send(
        "POST",
        place.url,
        proof,
        seconds,
        headers=question.headers_for(place),
        body=question.body_for(place.platform, given),
    )
    if answer.status != 200:
        raise refused(deployment, place, proof, answer)
    found = question.predictions_in(answer.json(), len(given))
    if found is None:
        raise ScoringFailed(
            f"endpoint {place.endpoint} answered with something that is not one prediction for each of the "
            f"{len(given)} rows: {answer.words()}",
            deployment,
            answer.status,
        )
    return Scores(found, place.endpoint, place.served, round(answer.seconds, 3))


def refused(deployment: Deployment, place: Place, proof: Mapping[str, str], answer: Answer) -> ClientError:
    """What an answer other than 200 means, with what has to be done about it."""
    said = answer.words() or "no words"
    endpoint = f"endpoint {place.endpoint}"
    if answer.status == 401:
        sign_in = databricks.sign_in(place.origin) if place.platform == "databricks" else azure.SIGN_IN
        return NotAllowed(f"{endpoint} does not take your credential ({said}); {sign_in}", deployment)
    if answer.status == 403:
        return NotAllowed(
            f"you may not ask {endpoint} ({said}); who may grant it runs: {grant(deployment, place, proof)}", deployment
        )
    if answer.status == 404:
        return NotFound(f"{endpoint} is not there, or does not serve {place.served or 'anything'} ({said})", deployment)
    if answer.status == 429 or answer.status in (502, 503, 504):
        return Unreachable(f"{endpoint} is too busy or not up ({answer.status}: {said}); try again", deployment)
    return ScoringFailed(f"{endpoint} answered {answer.status}: {said}", deployment, answer.status)


def grant(deployment: Deployment, place: Place, proof: Mapping[str, str]) -> str:
    """The command that gives the caller the right to ask."""
    if place.platform != "databricks":
        return azure.grant(place, proof.get("Authorization", "").removeprefix("Bearer "))
    caller = databricks.who(place, proof) or {"user": "YOU"}
    wanted = [*(each.wire() for each in deployment.spec.permissions), {**caller, "level": "CAN_QUERY"}]
    patch = json.dumps({"spec": {"permissions": wanted}})
    return (
        f"kubectl patch modeldeployment {deployment.name} -n {deployment.namespace} --type=merge "
        f"-p {shlex.quote(patch)}"
    )

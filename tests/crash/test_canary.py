"""No token and no secret is left: not in logs, tracebacks, audit, Events, statuses, nor in what etcd ever wrote, where
only Secrets are encrypted (invariant 4).

Runs after every other test, over all tokens that the crash stage's operators saw, the keys of endpoints, and all
secrets, certificates and keys that teams prove themselves by, and after failures of the kind that spill them: answers
that can not be read, and refusals that repeat what they refuse.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator, Set
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, quote

import pytest

from stand import wait_for
from tests.canary import Canary
from tests.crash.kept import KeptTeams
from tests.crash.proxy import Answer, Asked, Tamper
from tests.crash.scenes import FINAL, TRAINS, Scene
from tests.crash.serving import ServingScene
from tests.crash.sides import SIDES
from tests.crash.stage import Stage
from tests.pem import certificate_pem, ec_key, key_pem, rsa_key
from tests.platforms import NAMES
from tests.providers.oidc.provider import Provider, serve_provider

JSON = [("Content-Type", "application/json")]


@pytest.fixture
def provider(tmp_path: Path) -> Iterator[Provider]:
    with serve_provider(tmp_path) as running:
        yield running


@pytest.mark.timeout(1200)
def test_no_token_and_no_secret_is_left_in_logs_tracebacks_audit_events_statuses_or_etcd(
    crash_stage: Stage, provider: Provider
) -> None:
    for platform in NAMES:
        suffer(crash_stage, platform)
        serve(crash_stage, platform)
    kept = prove(crash_stage, provider)
    tokens = issued(crash_stage) | kept
    assert len(tokens) > len(kept) + 4, "a search for nothing finds nothing"
    texts = left_behind(crash_stage)
    assert all(texts.values())
    canary = Canary(tokens)
    assert canary.search(texts) == []
    planted = next(reversed(tokens.values()))
    assert {leak.text for leak in canary.search({"copy": texts["log"] + planted.encode()})} == {"copy"}
    where_they_belong = crash_stage.stand.cluster.kubectl("get", "secrets", "-A", "-o", "yaml").stdout.encode()
    assert {leak.token for leak in canary.search({"secrets": where_they_belong})} == set(kept)


@pytest.mark.parametrize(
    "disguise",
    [
        lambda token: token,
        lambda token: f"Authorization: Bearer {token}",
        lambda token: token.split(".")[1],
        lambda token: token.split(".")[2],
        lambda token: token[: len(token) * 3 // 4],
        lambda token: base64.b64encode(token.encode()).decode(),
        lambda token: base64.b64encode(f"x{token}".encode()).decode(),
        lambda token: base64.urlsafe_b64encode(f"token={token}&".encode()).decode(),
    ],
)
def test_a_planted_leak_is_found_in_every_disguise(disguise: Callable[[str], str]) -> None:
    words = (base64.urlsafe_b64encode(bytes(range(n, n + 90))).decode() for n in (1, 11, 60))
    token = ".".join(words)
    canary = Canary({"planted": token, "other": token[::-1]})
    leaks = canary.search({"log": f'{{"event": "x", "error": "{disguise(token)}"}}\n'.encode(), "audit": b"nothing"})
    assert {(leak.text, leak.token) for leak in leaks} == {("log", "planted")}


@pytest.mark.parametrize(
    "written", [str, lambda signature: quote(signature, safe=""), quote], ids=["raw", "url", "path"]
)
def test_a_planted_signature_of_a_storage_url_is_found(written: Callable[[str], str]) -> None:
    signature = base64.b64encode(bytes(range(200, 232))).decode()
    text = f"https://storage/container?sv=2021&sig={written(signature)}&sr=c".encode()
    leaks = Canary({"planted": signature}).search({"log": text})
    assert {leak.token for leak in leaks} == {"planted"}


@pytest.mark.parametrize("written", [str, lambda pem: "".join(pem.splitlines()), lambda pem: json.dumps({"key": pem})])
@pytest.mark.parametrize("pem", [key_pem(ec_key()), certificate_pem(ec_key())], ids=["key", "certificate"])
def test_a_planted_key_or_certificate_is_found_and_another_of_its_kind_is_not(
    pem: str, written: Callable[[str], str]
) -> None:
    canary = Canary({"planted": pem})
    assert canary.search({"log": written(pem).encode()})
    assert canary.search({"log": base64.b64encode(written(pem).encode())})
    for other in (key_pem(rsa_key()), certificate_pem(rsa_key())):
        assert canary.search({"log": f"{written(other)} {base64.b64encode(other.encode()).decode()}".encode()}) == []


@pytest.mark.parametrize(
    "secret",
    [
        "dose0123456789abcdef0123456789abcdef",
        "dapi0123456789abcdef0123456789abcdef",
        "aB3d8Q~0123456789.abc-def_GHIJKLMNOPQrs",
    ],
    ids=["Databricks OAuth secret", "personal access token", "Entra client secret"],
)
@pytest.mark.parametrize("written", [str, lambda s: f"client_secret={quote(s)}", lambda s: f"id:{s}"])
def test_a_planted_secret_of_each_vendor_is_found(secret: str, written: Callable[[str], str]) -> None:
    text = written(secret).encode()
    assert Canary({"planted": secret}).search({"log": text})
    assert Canary({"planted": secret}).search({"log": b"Basic " + base64.b64encode(text)})


def suffer(stage: Stage, platform: str) -> None:
    """A team and a run whose operator meets one failure after the other, and a run that prints its own token."""
    scene = Scene(stage, platform, {1: TRAINS})
    side = scene.side
    before = tracebacks(stage)
    stage.proxy.tamper = refuses(
        side.token_path, 400, lambda said: {"error": "invalid_grant", "error_description": said}
    )
    stage.up()
    scene.found_team()
    workspace_says(stage, scene, "TokenExchangeRefused", "SignatureRefused")
    again(stage, refuses(side.whoami_path, 403, side.denial))
    workspace_says(stage, scene, "PermissionDenied")
    again(stage, garbled)
    wait_for("a traceback", lambda: tracebacks(stage) > before)
    again(stage, refuses(side.submit.of.path, 400, side.refusal, side.submit.of.method))
    stage.drive(scene.workspace_ready())
    scene.apply_run()
    stage.drive(scene.phase(*FINAL))  # the platform had accepted it, and it is found: well, whatever the answer said
    stage.proxy.tamper = None
    indiscreet = Scene(stage, platform)
    indiscreet.found_team()
    stage.drive(indiscreet.workspace_ready())
    indiscreet.apply_run(side.prints_its_token)
    stage.drive(indiscreet.phase("Failed"))
    assert "my token is" in json.dumps(indiscreet.logs()), "the run that prints its token left no log to search"


def serve(stage: Stage, platform: str) -> None:
    """A deployment that is asked with a key where there are keys: refused in words that repeat what it was asked with,
    and then answered.
    """
    scene = ServingScene(stage, platform)
    stage.up()
    scene.found_team()
    stage.drive(scene.workspace_ready())
    version = scene.publish()
    stage.proxy.tamper = refuses_to_score
    scene.apply(version, auth="Key" if platform == "azureml" else None)
    stage.drive(scene.rests("Stalled"))
    assert "unexpected" in json.dumps(scene.deployment()["status"]), "what the endpoint said was not told"
    stage.proxy.tamper = None
    scene.serve(version, "again")
    stage.drive(scene.rests("Ready"))


def refuses_to_score(asked: Asked, answer: Answer) -> Answer | None:
    """Answers of endpoints are failures that repeat the token, or the key."""
    if not asked.of.path.endswith(("/invocations", "/score")):
        return None
    return Answer(500, JSON, json.dumps({"message": f"unexpected {asked.bearer}"}).encode())


def prove(stage: Stage, provider: Provider) -> dict[str, str]:
    """Every way to prove oneself, first refused by whoever is asked, in words that repeat the proof, and then taken.

    Returns what the Secrets hold, by what it is.
    """
    teams = KeptTeams(stage, provider)
    stage.kill()
    stage.trust(provider.ca_file, stage.stand.address.ca_file)
    stage.flags |= {"allowed_issuer": provider.issuer, "azure_cloud": teams.clouds()}
    stage.env |= teams.operators_environment()
    stage.proxy.tamper = echoes({side.token_path for side in SIDES.values()}, {s.whoami_path for s in SIDES.values()})
    stage.up()
    teams.found()
    teams.refused()
    again(stage, None)
    teams.run()
    return teams.secrets()


def echoes(token_paths: Set[str], whoami_paths: Set[str]) -> Tamper:
    """Answers are refusals, in the form of each platform, that repeat all that the client proved itself by."""

    def tamper(asked: Asked, answer: Answer) -> Answer | None:
        said = f"what is {' or '.join(sorted(asked.proofs))}?"
        if asked.of.path in token_paths:
            document: dict[str, Any] = {"error": "invalid_client", "error_description": said}
            return Answer(401, JSON, json.dumps(document).encode())
        if asked.of.path in whoami_paths:
            azure = {"error": {"code": "AuthorizationFailed", "message": said}}
            document = azure if asked.of.server == "azureml" else {"error_code": "PERMISSION_DENIED", "message": said}
            return Answer(403, JSON, json.dumps(document).encode())
        return None

    return tamper


def tracebacks(stage: Stage) -> int:
    """How many there are in the operators' log."""
    return stage.log.read_bytes().count(b"Traceback") if stage.log.exists() else 0


def again(stage: Stage, tamper: Tamper | None) -> None:
    """The next operator, and the next failure."""
    stage.kill()
    stage.proxy.tamper = tamper
    stage.up()


def refuses(path: str, status: int, document: Callable[[str], dict[str, Any]], method: str = "") -> Tamper:
    """Answers to that path are refusals that repeat the token, from its first character and from within."""

    def tamper(asked: Asked, answer: Answer) -> Answer | None:
        if asked.of.path != path or asked.of.method != (method or asked.of.method):
            return None
        form = dict(parse_qsl(asked.body.decode(errors="replace"))) if "token" in path else {}
        token = form.get("subject_token") or form.get("client_assertion") or asked.bearer
        signature = token.rpartition(".")[2]
        return Answer(status, JSON, json.dumps(document(f"bad signature {signature} of {token}")).encode())

    return tamper


def garbled(asked: Asked, answer: Answer) -> Answer | None:
    """The API server's answer to a status is something else than an object: its reader fails with a traceback."""
    if not asked.of.path.endswith("/status"):
        return None
    return Answer(answer.status, JSON, json.dumps(f"{asked.bearer} may not").encode())


def workspace_says(stage: Stage, scene: Scene, *reasons: str) -> None:
    """Waits for one of those reasons of the workspace."""

    def says() -> bool:
        stage.check()
        conditions = scene.workspace().get("status", {}).get("conditions", [])
        return any(c["type"] == "Ready" and c["reason"] in reasons for c in conditions)

    wait_for(f"the workspace to say {' or '.join(reasons)}", says)


def issued(stage: Stage) -> dict[str, str]:
    """Every token that the platforms issued, that the API server minted for teams, and the operator's own; all that was
    sent to prove oneself; and every signature that opens a storage account by itself."""
    found = {"operator": stage.token}
    kinds = {name: stage.drivers[name].tokens() for name in NAMES}
    kinds |= {"signature": sorted(stage.proxy.signatures), "API server": stage.proxy.minted}
    kinds |= {"proof": sorted(stage.proxy.proofs)}
    kinds |= {"endpoint key": [key for each in stage.stand.control.azure_endpoints() for key in each["keys"]]}
    for kind, secrets in kinds.items():
        assert secrets, f"no {kind} to search for"
        found |= {f"{kind} {n}": secret for n, secret in enumerate(secrets)}
    return found


def left_behind(stage: Stage) -> dict[str, bytes]:
    """Everything that can be read afterwards."""
    kubectl = stage.stand.cluster.kubectl
    return {
        "log": stage.log.read_bytes(),
        "audit": stage.audit.read_bytes(),
        "events": kubectl("get", "events", "-A", "-o", "yaml").stdout.encode(),
        "statuses": kubectl("get", "mltr,mldep,mlws,cmlws", "-A", "-o", "yaml").stdout.encode(),
        "run logs": kubectl("get", "mlrl", "-A", "-o", "yaml").stdout.encode(),
        "API server's audit": stage.stand.cluster.audit_log.read_bytes(),
        "etcd": stage.stand.cluster.dump_etcd(history=True),
    }

"""Puts an examination together and shows it: what `trainyard doctor` does. The form is told in docs/doctor.md.

Imported when the command runs. The clouds' own command lines get this process's environment as it was; vendors' SDKs
get none of it, as in the operator.
"""

import json
import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer

from trainyard.audit.log import AuditLog
from trainyard.cli import session
from trainyard.cli.environment import drop_foreign_credentials
from trainyard.cli.exits import Exit
from trainyard.cli.options import Where
from trainyard.cli.terminal import coloured, plain, say, tell
from trainyard.client.access import find_access
from trainyard.client.doctor import chain
from trainyard.client.doctor.case import Case, Means, Subject
from trainyard.client.doctor.chain import Examined, Link
from trainyard.client.doctor.cluster import Cluster
from trainyard.client.doctor.results import Outcome, Remedy
from trainyard.client.doctor.tools import Tools
from trainyard.client.errors import ClientError
from trainyard.identity import clouds
from trainyard.identity.azure_workload import captured
from trainyard.identity.base import ServiceAccountRef
from trainyard.identity.broker import Broker
from trainyard.identity.hosts import DEFAULT_ALLOWED, DEFAULT_TOKEN_HOSTS, HostPolicy
from trainyard.identity.modes import IdentitySettings, modes

WORDS = {
    Outcome.PASSED: "pass",
    Outcome.WARNING: "warning",
    Outcome.FAILED: "FAIL",
    Outcome.NOT_SEEN: "not seen",
    Outcome.SKIPPED: "skipped",
}
COLOURS = {Outcome.PASSED: "32", Outcome.WARNING: "33", Outcome.FAILED: "1;31", Outcome.NOT_SEEN: "33"}
TITLE, RESULT = 24, 10  # widths of columns


@dataclass(frozen=True, slots=True)
class Flags:
    """What the operator's flags say, as far as the chain goes by them."""

    operator: tuple[str, str]
    allowed_hosts: tuple[str, ...]
    allowed_token_hosts: tuple[str, ...]
    allowed_issuers: tuple[str, ...]
    databricks_audience: str
    azure_clouds: tuple[Path, ...]
    imds_endpoint: str
    audit_file: Path | None


def examine(where: Where, kind: str, name: str, flags: Flags, seconds: float, *, as_json: bool) -> None:
    """Examines, shows what was found, and ends the command with its exit code."""
    environment = dict(os.environ)
    settings = _settings(flags)
    drop_foreign_credentials()
    with ExitStack() as stack:
        try:
            access = find_access(where.context, where.kubeconfig)
            stack.callback(access.api.close)
            if where.verbose:
                stack.enter_context(session.shown_requests())
            means = _means(Cluster(access.api), flags, settings, environment, stack)
            case = Case(Subject(kind, name, where.namespace or access.namespace), means)
            code = _shown(case, seconds, as_json=as_json)
        except ClientError as error:
            session.explain(error)
            code = session.code_for(error)
        except (ValueError, OSError) as error:
            say(f"error: {error}")
            code = Exit.USAGE
    raise typer.Exit(int(code))


def _settings(flags: Flags) -> IdentitySettings:
    return IdentitySettings(
        databricks_audience=flags.databricks_audience,
        allowed_issuers=flags.allowed_issuers,
        issuer_token_hosts=flags.allowed_token_hosts,
        imds_endpoint=flags.imds_endpoint,
        workload=captured(os.environ),
    )


def _means(
    cluster: Cluster, flags: Flags, settings: IdentitySettings, environment: dict[str, str], stack: ExitStack
) -> Means:
    clouds.install(clouds.read(path) for path in flags.azure_clouds)
    hosts = HostPolicy([*DEFAULT_ALLOWED, *flags.allowed_hosts], [*DEFAULT_TOKEN_HOSTS, *flags.allowed_token_hosts])
    if flags.audit_file is not None:
        log = AuditLog.to_file(flags.audit_file)
    else:
        log = AuditLog(stack.enter_context(Path(os.devnull).open("w", encoding="utf-8")))  # noqa: SIM115 - it is one
    return Means(
        cluster=cluster,
        broker=Broker(hosts, modes(cluster, hosts, log, settings)),
        log=log,
        tools=Tools(environment),
        operator=ServiceAccountRef(*flags.operator),
        own_name=cluster.own_name(),
    )


def _shown(case: Case, seconds: float, *, as_json: bool) -> Exit:
    found: list[Examined] = []
    if not as_json:
        tell(_head(case))
        tell(f" {'#':>2}  {'LINK':{TITLE}}{'RESULT':{RESULT}}FOUND")
    for each in chain.examine(case, seconds, begun=_begun):
        _cleared()
        found.append(each)
        if not as_json:
            for line in lines(each, colour=coloured(sys.stdout)):
                print(line, flush=True)
    code = code_of(found)
    if as_json:
        tell(json.dumps(document(case, found, code), indent=2, ensure_ascii=False))
    else:
        tell(f"\n{summary(found)}")
    return code


def _head(case: Case) -> str:
    return plain(
        f"{case.subject}, for runs of namespace {case.subject.namespace}, seen as {case.means.own_name or '?'}\n"
    )


def lines(each: Examined, *, colour: bool = False) -> Iterator[str]:
    """A link as it is shown: a row, and below it what mends it."""
    result = each.result
    word = f"{WORDS[result.outcome]:{RESULT}}"
    if colour and result.outcome in COLOURS:
        word = f"\x1b[{COLOURS[result.outcome]}m{word}\x1b[0m"
    reason = f"{result.word}: " if result.outcome in (Outcome.FAILED, Outcome.NOT_SEEN, Outcome.WARNING) else ""
    yield f" {each.number:>2}  {each.link.title:{TITLE}}{word}{reason}{_one_line(result.message)}"
    verb = "to see it" if result.outcome is Outcome.NOT_SEEN else "to mend it"
    for remedy in result.remedies:
        if not remedy.command and remedy.what in result.message:
            continue
        yield f"     {verb}: {_one_line(remedy.what)}{':' if remedy.command else ''}"
        if remedy.command:
            yield f"       {plain(remedy.command)}"


def summary(found: list[Examined]) -> str:
    """The last line."""
    counts = [(WORDS[kind], sum(1 for each in found if each.result.outcome is kind)) for kind in Outcome]
    return ", ".join(f"{count} {word}" for word, count in counts if count)


def code_of(found: list[Examined]) -> Exit:
    """1 if a link failed; 3 if none did and one was not seen; else 0."""
    outcomes = {each.result.outcome for each in found}
    if Outcome.FAILED in outcomes:
        return Exit.FAILED
    return Exit.UNSEEN if Outcome.NOT_SEEN in outcomes else Exit.OK


def document(case: Case, found: list[Examined], code: Exit) -> dict[str, Any]:
    """The result as `-o json` has it; keys are only ever added."""
    subject = case.subject
    named = {"kind": subject.kind, "name": subject.name}
    return {
        "workspace": named if subject.shared else {**named, "namespace": subject.namespace},
        "namespace": subject.namespace,
        "seenAs": case.means.own_name,
        "result": {Exit.OK: "Passed", Exit.FAILED: "Failed"}.get(code, "NotSeen"),
        "exitCode": int(code),
        "links": [_link(each) for each in found],
    }


def _link(each: Examined) -> dict[str, Any]:
    result = each.result
    return {
        "number": each.number,
        "name": each.link.name,
        "outcome": result.outcome.value,
        "reason": result.word,
        "message": _one_line(result.message),
        "facts": dict(result.facts),
        "remedies": [_remedy(remedy) for remedy in result.remedies],
        "seconds": round(each.seconds, 3),
    }


def _remedy(remedy: Remedy) -> dict[str, str]:
    return {"what": _one_line(remedy.what), "command": plain(remedy.command)}


def _one_line(text: str) -> str:
    return " ".join(plain(text).split())


def _begun(number: int, link: Link) -> None:
    """Progress, for a person who waits."""
    if sys.stderr.isatty():
        sys.stderr.write(f"\r\x1b[K {number:>2}  {link.title} ...")
        sys.stderr.flush()


def _cleared() -> None:
    if sys.stderr.isatty():
        sys.stderr.write("\r\x1b[K")
        sys.stderr.flush()

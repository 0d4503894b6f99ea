"""The smallest run of each compute class, in the platform's terms: what the last links ask about. Pure; nothing runs.

Made with the operator's own `translate`, so that the needs are those of a run. A class that needs a runtime beside it
is tried with each that the workspace has.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from trainyard.api.training_run import MLTrainingRunSpec
from trainyard.client.doctor.case import Case
from trainyard.core.errors import TranslationError
from trainyard.core.tokens import code_digest
from trainyard.platforms.base import Job, Need, Request
from trainyard.platforms.registry import platform_of
from trainyard.platforms.short_names import serves_alone

NAME = "trainyard-doctor"
FILES = {"main.py": b"print('hello')\n"}
NO_UID = "00000000-0000-0000-0000-000000000000"
TIMEOUT_SECONDS = 3600


@dataclass(frozen=True, slots=True)
class Trial:
    """What a class comes to: a request, or why there is none."""

    compute_class: str
    request: Request | None
    error: TranslationError | None = None


def trials(case: Case) -> Iterator[Trial]:
    """One for each compute class that runs may name. Each need is in the first request alone that has it."""
    seen: set[Need] = set()
    for name in for_runs(case):
        trial = _trial(case, name)
        if trial.request is not None:
            wanted = tuple(need for need in trial.request.needs if need not in seen)
            seen |= set(wanted)
            trial = Trial(name, replace(trial.request, needs=wanted))
        yield trial


def for_runs(case: Case) -> list[str]:
    """The compute classes that have machines for runs; others are for served models alone."""
    return sorted(name for name, shape in case.workspace.compute_classes.items() if not serves_alone(shape))


def _trial(case: Case, name: str) -> Trial:
    first: TranslationError | None = None
    for runtime in (None, *sorted(case.workspace.runtimes)):
        for model in (True, False):
            for runs_as in (None, *_run_as(case)):
                try:
                    return Trial(name, _request(case, name, runtime, model, runs_as))
                except TranslationError as error:
                    first = first or error
    return Trial(name, None, first)


def _run_as(case: Case) -> list[str]:
    """Names that runs may have to give, where the workspace wants one of them."""
    return sorted(case.workspace.run_as.identities) if case.workspace.run_as is not None else []


def _request(case: Case, name: str, runtime: str | None, model: bool, runs_as: str | None) -> Request:
    spec: dict[str, Any] = {
        "workspaceRef": {"kind": case.subject.kind, "name": case.subject.name},
        "code": {"inline": FILES["main.py"].decode()},
        "compute": {"class": name},
        **({"environment": {"runtime": runtime}} if runtime is not None else {}),
        **({"model": {"name": NAME}} if model else {}),
        **({"runAs": runs_as} if runs_as is not None else {}),
    }
    job = Job(
        namespace=case.subject.namespace,
        name=NAME,
        uid=NO_UID,
        attempt=1,
        submission_token=NAME,
        spec=MLTrainingRunSpec.model_validate(spec),
        workspace=case.workspace,
        target=case.target,
        files=FILES,
        code_digest=code_digest(FILES),
        timeout_seconds=TIMEOUT_SECONDS,
    )
    return platform_of(case.workspace).translate(job)

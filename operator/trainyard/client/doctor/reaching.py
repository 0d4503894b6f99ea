"""Links 8 to 11: the storage that uploads go to, permissions, compute, and quota.

The last three are the operator's own checks before a run (`Connection.preflight`), asked about the smallest run of each
compute class (`trial`) and told by what they are about. Nothing is started. What the platform does not tell this
identity is not seen, as it is for a run.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from trainyard.client.doctor import remedies
from trainyard.client.doctor.case import Case
from trainyard.client.doctor.results import Remedy, Result, failed, not_applicable, not_seen, passed
from trainyard.client.doctor.trial import for_runs, trials
from trainyard.core.errors import Denied, TrainyardError, TranslationError, Unreachable
from trainyard.core.remote import Finding
from trainyard.identity import clouds
from trainyard.platforms.azureml import needs as azure
from trainyard.platforms.base import Need
from trainyard.platforms.databricks import needs as databricks

COMPUTE = frozenset(
    {
        azure.COMPUTE,
        azure.VM_SIZE,
        databricks.CLUSTER,
        databricks.POLICY,
        databricks.POOL,
        databricks.BUDGET_POLICY,
        databricks.NODE_TYPE,
        databricks.SPARK_VERSION,
    }
)
QUOTA = frozenset({azure.VM_QUOTA})
# What a compute is made of, where nothing says what it should be.
ANY_SIZE, ANY_MACHINES = "Standard_DS3_v2", 4


@dataclass(frozen=True, slots=True)
class Looked:
    """One need and what was found."""

    need: Need
    finding: Finding


@dataclass(slots=True)
class Checks:
    """What every check found; `invalid` holds the compute classes that no run can be made with."""

    looked: list[Looked] = field(default_factory=list)
    invalid: list[tuple[str, TranslationError]] = field(default_factory=list)
    error: TrainyardError | None = None


def storage(case: Case) -> Result:
    """Link 8."""
    try:
        return passed(case.connection.reach_storage())
    except Denied as error:
        return failed(
            error.reason, f"an upload is refused: {remedies.without_commands(error.message)}", *_may_upload(case)
        )
    except Unreachable as error:
        return failed(
            "StorageUnreachable",
            f"the storage that uploads go to does not answer from here: {error.message} If it has a private endpoint "
            "or a firewall, let the operator's network in.",
        )
    except TrainyardError as error:
        return failed(error.reason, f"an upload is refused: {error.message}")


def _may_upload(case: Case) -> tuple[Remedy, ...]:
    if case.target.platform != "azureml":
        return ()
    path = clouds.workspace_of(case.target.host).path
    return (remedies.role_for(azure.CODE_WRITE, case.target.principal, path),)


class Reached:
    """Links 9 to 11 of one examination: they share what the platform was asked."""

    def __init__(self) -> None:
        self._checks: Checks | None = None

    def permissions(self, case: Case) -> Result:
        """Link 9."""
        checks = self._of(case)
        found = [each for each in checks.looked if each.need.kind not in COMPUTE | QUOTA]
        return _told(case, "PermissionMissing", found, checks.error, "a run needs no right that can be looked at")

    def compute(self, case: Case) -> Result:
        """Link 10."""
        checks = self._of(case)
        if not case.workspace.compute_classes:
            return failed("NoComputeClass", "the workspace has no compute class, so that no run can start; add one")
        if not for_runs(case):
            return not_applicable("every compute class is for served models alone, so that no run can start here")
        small = {e.need.name for e in checks.looked if e.need.kind in QUOTA and e.finding.outcome == "Missing"}
        found = [
            each
            for each in checks.looked
            # A size that is there and that the quota is too small for is told at the next link.
            if each.need.kind in COMPUTE and not (each.need.kind == azure.VM_SIZE and each.need.name in small)
        ]
        if checks.invalid:
            name, error = checks.invalid[0]
            return failed(error.reason, f"no run can be made with compute class {name}: {error.message}")
        return _told(
            case, "ComputeMissing", found, checks.error, "every compute class is serverless, or of its own kind"
        )

    def quota(self, case: Case) -> Result:
        """Link 11."""
        checks = self._of(case)
        found = [each for each in checks.looked if each.need.kind in QUOTA]
        if not found and checks.error is None:
            if case.target.platform == "azureml":
                return not_applicable("no compute class makes machines of its own")
            return not_applicable("Databricks tells of no quota before machines are started")
        return _told(case, "QuotaTooSmall", found, checks.error, "nothing to ask")

    def _of(self, case: Case) -> Checks:
        if self._checks is None:
            self._checks = _asked(case)
        return self._checks


def _asked(case: Case) -> Checks:
    """Every need of every class, each asked for once."""
    checks = Checks()
    for trial in trials(case):
        if trial.request is None:
            checks.invalid += [(trial.compute_class, trial.error)] if trial.error is not None else []
            continue
        wanted = _with_quota(trial.request.needs)
        if not wanted or checks.error is not None:
            continue
        try:
            findings = case.connection.preflight(replace(trial.request, needs=wanted))
        except TrainyardError as error:
            checks.error = error
            continue
        checks.looked += [Looked(need, finding) for need, finding in zip(wanted, findings, strict=True)]
    return checks


def _with_quota(wanted: Sequence[Need]) -> tuple[Need, ...]:
    """With a need of its own for the quota of each size of machines."""
    sizes = [need for need in wanted if need.kind == azure.VM_SIZE]
    return (*wanted, *(replace(need, kind=azure.VM_QUOTA) for need in sizes))


def _told(case: Case, word: str, looked: list[Looked], error: TrainyardError | None, nothing: str) -> Result:
    """One link of several findings: failed by one that is missing, else not seen by one that is unknown."""
    gone = [each for each in looked if each.finding.outcome == "Missing"]
    dark = [each for each in looked if each.finding.outcome == "Unknown"]
    facts: dict[str, Any] = {"passed": len(looked) - len(gone) - len(dark), "missing": len(gone), "unknown": len(dark)}
    if gone:
        mended = [(each, _remedy(case, each)) for each in gone]
        return failed(
            word,
            "; ".join(f"{each.finding.name}: {_lacking(each, remedy)}" for each, remedy in mended),
            *dict.fromkeys(remedy for _, remedy in mended),
            **facts,
        )
    if error is not None:
        return not_seen(error.reason, f"the platform could not be asked: {error.message}", **facts)
    if dark:
        sentences = "; ".join(f"{each.finding.name}: {each.finding.message}" for each in dark)
        return not_seen("PlatformDoesNotTell", sentences, *_sight(case, dark), **facts)
    if not looked:
        return not_applicable(nothing)
    names = ", ".join(dict.fromkeys(each.finding.name for each in looked))
    return passed(names, **facts)


def _lacking(looked: Looked, remedy: Remedy) -> str:
    """What a check says, without the command that is told apart."""
    said = looked.finding.message
    if not remedy.command:
        return said
    left = remedies.without_commands(said).partition(remedy.command)[0].rstrip().removesuffix(":")
    return left.removesuffix(" Its owner can run").removesuffix(" Who manages it can run")


def _remedy(case: Case, looked: Looked) -> Remedy:
    need = looked.need
    if case.target.platform == "azureml":
        place = clouds.workspace_of(case.target.host)
        if need.kind == azure.WORKSPACE:
            return remedies.role_for(need.right, need.holder, place.path)
        if need.kind == azure.COMPUTE and "has no compute" in looked.finding.message:
            return remedies.create_compute(need.name, ANY_SIZE, ANY_MACHINES, place.resource_group, place.name)
    return remedies.written(looked.finding.message)


def _sight(case: Case, dark: list[Looked]) -> tuple[Remedy, ...]:
    """What lets the principal see what it could not, where a role does."""
    if case.target.platform == "azureml" and any(each.need.kind in (azure.VM_SIZE, azure.VM_QUOTA) for each in dark):
        return (remedies.see_region(case.target.principal, clouds.workspace_of(case.target.host).subscription_id),)
    return ()

"""Link 1: the workspace, its spec, and what the operator says of it."""

from pydantic import ValidationError

from trainyard.api.workspace import ClusterMLWorkspaceSpec, MLWorkspaceSpec, WorkspaceStatus
from trainyard.client.doctor import mending
from trainyard.client.doctor.case import Case
from trainyard.client.doctor.cluster import PLURALS, Right
from trainyard.client.doctor.results import Result, failed, passed
from trainyard.client.errors import NotAllowed, NotFound
from trainyard.core.errors import IdentityError


def look(case: Case) -> Result:
    """Reads the workspace. Raises ClientError when the API server can not be reached."""
    subject, means = case.subject, case.means
    namespace = "" if subject.shared else subject.namespace
    try:
        found = means.cluster.workspace(subject.kind, namespace, subject.name)
    except NotFound:
        other = "" if subject.shared else " If it is a ClusterMLWorkspace, add --cluster."
        return failed("WorkspaceNotFound", f"{subject} does not exist; create it, or correct the name.{other}")
    except NotAllowed as error:
        right = Right("get", PLURALS[subject.kind], namespace, subject.name, group="trainyard.dev")
        return mending.forbidden(case, right, error.message)
    model = ClusterMLWorkspaceSpec if subject.shared else MLWorkspaceSpec
    try:
        spec = case.found_workspace = model.model_validate(found.get("spec", {}))
    except ValidationError as invalid:
        return failed("InvalidSpec", f"the spec can not be read: {_first_error(invalid)}")
    status = WorkspaceStatus.model_validate(found.get("status") or {})
    ready = status.condition("Ready")
    case.told, case.told_principal = ready.reason if ready is not None else "", status.principal or ""
    said = f"; the operator says {ready.reason}" if ready is not None else "; no operator has seen it"
    try:
        where = means.broker.check_host(spec)
    except IdentityError as error:
        return mending.of(case, error)
    platform = "azureml" if spec.azure_ml is not None else "databricks"
    return passed(
        f"{subject} is {where}, by the mode {spec.identity.mode}{said}",
        platform=platform,
        mode=spec.identity.mode,
        host=where,
        operatorSays=case.told,
    )


def _first_error(invalid: ValidationError) -> str:
    error = invalid.errors(include_url=False, include_input=False)[0]
    return f"{'.'.join(str(part) for part in ('spec', *error['loc']))}: {error['msg']}"

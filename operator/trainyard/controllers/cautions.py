"""The conditions of a workspace that warn: True while they hold, absent otherwise.

Called by `controllers.workspaces` at each check. They say nothing about whether runs may start: Ready does.
"""

from collections.abc import Iterable
from datetime import datetime

from trainyard.api.base import Condition
from trainyard.api.workspace import MLWorkspaceSpec, WorkspaceStatus
from trainyard.controllers.sessions import Sessions
from trainyard.core.actions import Note
from trainyard.core.errors import IdentityError, TrainyardError
from trainyard.core.times import stamp
from trainyard.core.transition import clip
from trainyard.identity.base import Caution
from trainyard.identity.secret_ref import personal

CREDENTIAL_EXPIRING, PERSONAL_ACCESS_TOKEN = "CredentialExpiring", "PersonalAccessToken"
TYPES = (CREDENTIAL_EXPIRING, PERSONAL_ACCESS_TOKEN)


async def cautions_of(sessions: Sessions, spec: MLWorkspaceSpec, namespace: str | None) -> tuple[Caution, ...] | None:
    """What has to be told now; None if that could not be found out.

    Args:
        sessions: asks the API server, and no platform.
        spec: of the workspace.
        namespace: whose identity is looked at; None: everybody has one of their own, and only the spec is looked at.
    """
    try:
        told = await sessions.cautions(spec, namespace) if namespace is not None else ()
    except IdentityError:
        told = ()  # the verdict says what is wrong with it
    except TrainyardError:
        return None
    always = personal(spec.identity)
    return (*told, always) if always is not None else told


def warned(
    before: WorkspaceStatus, cautions: Iterable[Caution] | None, generation: int, now: datetime
) -> list[Condition]:
    """The conditions for the cautions; those of before where nothing could be found out."""
    old = {condition.type: condition for condition in before.conditions if condition.type in TYPES}
    if cautions is None:
        return list(old.values())
    return [
        Condition(
            type=caution.condition,
            status="True",
            reason=caution.reason,
            message=clip(caution.message),
            last_transition_time=old[caution.condition].last_transition_time
            if caution.condition in old
            else stamp(now),
            observed_generation=generation,
        )
        for caution in cautions
    ]


def notes(before: WorkspaceStatus, after: WorkspaceStatus) -> list[Note]:
    """One Event for each condition that warns and was not there before."""
    known = {condition.type for condition in before.conditions}
    return [
        Note("Warning", condition.reason, condition.message)
        for condition in after.conditions
        if condition.type in TYPES and condition.type not in known
    ]

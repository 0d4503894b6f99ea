"""Jobs of one Azure ML workspace by name: the requests about them, and whose they are.

Called by `connection` in a lane's thread. A job's name is the submission token, which is also a tag of it. Anybody may
make a job of any name, so that one counts as ours only with the tag. Versions of the API: those that azure-ai-ml 1.35
uses for the same requests.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from typing import Any
from urllib.parse import quote

from trainyard.core.errors import Denied, Missing, PlatformError, Refused, Unreachable
from trainyard.core.remote import RemoteRun, Stage
from trainyard.platforms.azureml.client import AzureMLClient
from trainyard.platforms.azureml.history import History
from trainyard.platforms.azureml.names import TAG_TOKEN
from trainyard.platforms.azureml.putting import USER_TOKEN_HEADER, hands_on_user_token, put_version
from trainyard.platforms.azureml.states import remote_run, tags_of

READ_VERSION = "2024-01-01-preview"
CANCEL_VERSION = "2023-04-01-preview"
# Seconds for which run history is believed rather than an answer that a job is not there.
DOUBTED_FOR = 300.0


class Jobs:
    """Asks through one client."""

    def __init__(self, client: AzureMLClient, history: History, clock: Callable[[], float] = time.monotonic) -> None:
        self._client = client
        self._history = history
        self._clock = clock
        self._doubted: dict[str, float] = {}  # since when a job that was made is not shown

    def get(self, name: str) -> dict[str, Any]:
        """The job as it is. Raises Missing if there is none."""
        return self._client.do("GET", _path(name), READ_VERSION)

    def followed(self, name: str) -> dict[str, Any]:
        """The job as it is, of which it is known that it was made.

        One answer that it is not there would end a run for good. So run history, which every job is in from its
        beginning, is asked as well, and for a while believed rather.

        Raises:
            Missing: it is not there.
            Unreachable: run history has it, or does not answer.
        """
        try:
            found = self.get(name)
        except Missing:
            doubted = self._clock() - self._doubted.setdefault(name, self._clock()) < DOUBTED_FOR
            if doubted and self._history.has(name):
                raise Unreachable(f"job {name} is not shown at the moment, though run history has it") from None
            self._doubted.pop(name, None)
            raise
        self._doubted.pop(name, None)
        return found

    def ours(self, token: str) -> dict[str, Any] | None:
        """The job of that submission token, or None.

        Raises:
            Refused: RemoteNameTaken: there is one of that name that we did not make.
        """
        try:
            job = self.get(token)
        except Missing:
            return None
        if not is_ours(job):
            raise Refused(
                f"the workspace has a job {token} already that this operator did not make, so that the run can not be "
                "started under its own name. Look at who made it; then create the run again.",
                reason="RemoteNameTaken",
            )
        return job

    def put(self, name: str, body: Mapping[str, Any], until: float) -> dict[str, Any]:
        """Makes the job, unless that took too long.

        Raises:
            Refused: AlreadyExists: there is another one of that name.
        """
        return self._client.do(
            "PUT", _path(name), put_version(body), body=body, headers=self._headers(body), until=until
        )

    def pages(self, since: datetime) -> Iterator[list[RemoteRun]]:
        """Pages of jobs that were made since then and carry our tag, newest first; archived ones are left out.

        The service filters by tag, never by state or time: what is older ends the list here.
        """
        query = {"listViewType": "ActiveOnly", "tag": TAG_TOKEN}
        for rows in self._client.pages("/jobs", READ_VERSION, query=query):
            recent = [row for row in rows if _is_recent(row, since)]
            # Also without any, or one call would have to go through whatever others have made since.
            yield [remote_run(row) for row in recent if is_ours(row)]
            if len(recent) < len(rows):
                return

    def cancel(self, name: str) -> None:
        """Asks for it to be stopped, and waits for nothing. One that has ended, or is about to, is fine."""
        try:
            self._client.do("POST", f"{_path(name)}/cancel", CANCEL_VERSION)
        except Missing:
            self.followed(name)
            raise Unreachable(f"job {name} is there, but could not be found to be stopped") from None
        except Refused:
            state = remote_run(self.get(name))
            if state.stage is not Stage.ENDED and state.state not in ("Finalizing", "CancelRequested"):
                raise

    def archive(self, name: str) -> None:
        """Takes an ended job of ours out of the lists.

        By the run history's `hidden`, which is the same flag: putting a job back as it was read is refused for most
        kinds of jobs, for which reason azure-ai-ml goes this way first too (`_job_operations.py`, _archive_or_restore).
        """
        job = self.get(name)
        properties = job.get("properties") or {}
        if not is_ours(job) or properties.get("isArchived") or remote_run(job).stage is not Stage.ENDED:
            return
        try:
            self._history.hide(name, str(properties.get("experimentName") or "Default"))
        except (Refused, Denied, Unreachable) as by_history:
            # Not where history does not have it: a job that was deleted meanwhile would be made, and started, anew.
            self._put_archived(name, properties, by_history)

    def _put_archived(self, name: str, properties: Mapping[str, Any], by_history: PlatformError) -> None:
        body = {"properties": {key: value for key, value in properties.items() if value is not None}}
        body["properties"]["isArchived"] = True
        body["properties"].pop("status", None)
        try:
            self._client.do("PUT", _path(name), put_version(body), body=body, headers=self._headers(body))
        except Refused:
            raise by_history from None

    def _headers(self, body: Mapping[str, Any]) -> dict[str, str]:
        if hands_on_user_token(body):
            return {USER_TOKEN_HEADER: self._client.ml_token()}
        return {}


def _is_recent(job: Mapping[str, Any], since: datetime) -> bool:
    made = remote_run(job).started_at
    return made is None or made >= since


def is_ours(job: Mapping[str, Any]) -> bool:
    """Whether we made the job: its name is the token in its own tag."""
    return bool(job.get("name")) and tags_of(job).get(TAG_TOKEN) == job["name"]


def _path(name: str) -> str:
    return f"/jobs/{quote(name, safe='')}"

"""GET requests of one preflight, each made once, and who the identities are that it asks about.

Used by `preflight` and its parts for one call and then thrown away: rights change while an operator runs. Must only
ever GET or HEAD.
"""

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from trainyard.core.errors import Denied, Missing, PlatformError, Refused, Unreachable
from trainyard.platforms.databricks.client import DatabricksClient
from trainyard.platforms.verdicts import NotToldError

SCIM = "/api/2.0/preview/scim/v2"
# Everybody belongs to these, whatever SCIM lists (Databricks documentation, "Groups", system groups).
EVERYBODY = frozenset({"users", "account users"})
ADMINS = "admins"
# Far more than any run needs; a wrong turn must not become a flood.
MOST_REQUESTS = 150
# Groups whose entitlements are looked at.
MOST_GROUPS = 20
# Answers that say something of what was asked; anything else says something of the platform.
REFUSALS = (Denied, Missing, Refused)


@dataclass(frozen=True, slots=True)
class Person:
    """A user or service principal: by which names rights can reach it. `complete`: its groups are known."""

    name: str
    groups: frozenset[str] = frozenset()
    entitlements: frozenset[str] = frozenset()
    complete: bool = False

    @property
    def names(self) -> frozenset[str]:
        """Whatever a right may be granted to for this one to hold it."""
        return self.groups | EVERYBODY | {self.name}

    @property
    def admin(self) -> bool:
        """Whether it administers the workspace."""
        return ADMINS in self.groups


class Asked:
    """Requests through one client, as one principal.

    Args:
        deadline: of time.monotonic(); nothing is asked after it.
    """

    def __init__(self, client: DatabricksClient, principal: str, deadline: float) -> None:
        self.client = client
        self.principal = principal
        self._deadline = deadline
        self._answers: dict[tuple[str, str], Mapping[str, Any] | PlatformError] = {}
        self._people: dict[str, Person] = {}

    def get(self, path: str, /, **query: Any) -> Mapping[str, Any]:
        """The answer, asked for at most once; errors as the client raises them, those of an API that is not there too.

        Raises:
            NotToldError: too much was asked already, or for too long, or this workspace lacks the API.
        """
        key = (path, repr(sorted(query.items())))
        if key not in self._answers:
            self._may_ask()
            self._answers[key] = self._ask(path, query)
        answer = self._answers[key]
        if isinstance(answer, PlatformError):
            raise answer
        return answer

    def pages(self, path: str, rows: str, /, **query: Any) -> Iterator[Mapping[str, Any]]:
        """Rows of every page."""
        while True:
            answer = self.get(path, **query)
            yield from answer.get(rows) or ()
            if not answer.get("next_page_token"):
                return
            query["page_token"] = answer["next_page_token"]

    def there(self, path: str) -> bool:
        """Whether HEAD finds something at the path."""
        self._may_ask()
        try:
            self.client.head(path)
        except Missing:
            return False
        return True

    def person(self, name: str) -> Person:
        """Who that is, with groups and entitlements as far as they can be found out."""
        if name not in self._people:
            self._people[name] = self._me() if name == self.principal else self._other(name)
        return self._people[name]

    def entitlements_of(self, person: Person) -> frozenset[str]:
        """Its own and its groups'.

        Raises:
            NotToldError: not all of its groups can be read.
        """
        found = set(person.entitlements)
        for group in sorted((person.groups | {"users"}) - {ADMINS})[:MOST_GROUPS]:
            try:
                listed = self.get(f"{SCIM}/Groups", filter=f'displayName eq "{group}"')
            except REFUSALS as error:
                raise NotToldError(f"the entitlements of group {group} can not be read: {error.message}") from error
            for row in listed.get("Resources") or ():
                if "entitlements" not in row:
                    # Who does not administer the workspace is shown names only (SCIM API documentation).
                    raise NotToldError(f"the entitlements of group {group} are shown to admins only")
                found |= _values(row, "entitlements", "value")
        if not person.complete:
            raise NotToldError(f"the groups of {person.name} can not be read")
        return frozenset(found)

    def account_id(self) -> str:
        """Of the account that the workspace belongs to (databricks-sdk config.py reads it at the same place)."""
        try:
            account = self.get("/.well-known/databricks-config").get("account_id")
        except (Denied, Missing, Refused, Unreachable) as error:
            raise NotToldError(f"the workspace does not say which account it belongs to: {error.message}") from error
        if not account:
            raise NotToldError("the workspace does not say which account it belongs to")
        return str(account)

    def _me(self) -> Person:
        return _person(self.principal, self.get(f"{SCIM}/Me"))

    def _other(self, name: str) -> Person:
        kind, attribute = ("Users", "userName") if "@" in name else ("ServicePrincipals", "applicationId")
        try:
            rows = self.get(f"{SCIM}/{kind}", filter=f'{attribute} eq "{name}"').get("Resources") or ()
        except (Denied, Missing, Refused, NotToldError):
            return Person(name)
        # Names and ids alone are shown to who does not administer the workspace: then its groups are not known.
        return _person(name, rows[0]) if rows and "groups" in rows[0] else Person(name)

    def _ask(self, path: str, query: Mapping[str, Any]) -> Mapping[str, Any] | PlatformError:
        try:
            return self.client.do("GET", path, query=query)
        except REFUSALS as error:
            return error
        except Unreachable as error:
            if error.reason != "EndpointNotFound":
                raise
            # This workspace has no such API: as good as a refusal to tell.
            return Denied(error.message, reason=error.reason)

    def _may_ask(self) -> None:
        if time.monotonic() > self._deadline:
            raise NotToldError("the checks took too long; this one was not made")
        if len(self._answers) >= MOST_REQUESTS:
            raise NotToldError(f"there is more to check than {MOST_REQUESTS} requests tell; this was not checked")


def _person(name: str, row: Mapping[str, Any]) -> Person:
    return Person(name, _values(row, "groups", "display"), _values(row, "entitlements", "value"), complete=True)


def _values(row: Mapping[str, Any], key: str, field: str) -> frozenset[str]:
    return frozenset(str(each[field]) for each in row.get(key) or () if each.get(field))

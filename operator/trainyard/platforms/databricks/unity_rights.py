"""Whether an identity holds what it needs in Unity Catalog. Called by `preflight`; only reads.

One securable at a time: its effective permissions (which include what is inherited), then its owner, who holds every
right on it. Rules: Databricks documentation, "Unity Catalog privileges and securable objects" and "Manage models
lifecycle in Unity Catalog"; databricks-sdk service/catalog.py (GrantsAPI.get_effective, RegisteredModelsAPI). Who does
not manage a securable is shown its own grants only: nothing can then be said of somebody else.
"""

from collections.abc import Mapping
from typing import Any

from trainyard.core.errors import Denied, Missing, Refused
from trainyard.platforms.base import Need
from trainyard.platforms.databricks import needs, remedies
from trainyard.platforms.databricks.asked import REFUSALS, Asked, Person
from trainyard.platforms.verdicts import Found, NotToldError, missing, passed

UNITY_CATALOG = "/api/2.1/unity-catalog"
# Kind of a need, and what the API calls it: in grants, and as a collection of its own.
SECURABLES = {
    needs.CATALOG: ("CATALOG", "catalogs"),
    needs.SCHEMA: ("SCHEMA", "schemas"),
    # A registered model's type is FUNCTION wherever grants are concerned (RegisteredModelsAPI).
    needs.MODEL: ("FUNCTION", "models"),
    needs.TABLE: ("TABLE", "tables"),
    needs.VOLUME: ("VOLUME", "volumes"),
    needs.EXTERNAL_LOCATION: ("EXTERNAL_LOCATION", "external-locations"),
}
# ALL PRIVILEGES does not include it (documentation, "ALL PRIVILEGES").
MANAGE = "MANAGE"
ALL = "ALL PRIVILEGES"


class UnityRights:
    """Looks rights up through the requests of one preflight.

    Args:
        registrars: who registers the model of that name, which makes them its owner if it is new.
    """

    def __init__(self, asked: Asked, registrars: Mapping[str, str]) -> None:
        self._asked = asked
        self._registrars = registrars

    def plain(self, need: Need) -> Found:
        """A right that has to be held on exactly what the need names, which has to be there."""
        try:
            held = self._holds(need.kind, need.name, need.holder, need.right)
        except Missing:
            return missing(
                f"{need.kind} {need.name} does not exist. Create it, or correct the workspace's mapping or the spec."
            )
        return self._told(held, need, need.right, need.kind, need.name)

    def model(self, need: Need) -> Found:
        """REGISTER, SET ALIAS or SET TAGS: what that takes depends on whether the model is there."""
        right = {needs.REGISTER: "CREATE MODEL VERSION", needs.SET_TAGS: "APPLY TAG"}.get(need.right, MANAGE)
        try:
            held = self._holds(need.kind, need.name, need.holder, right, *_others(need.right))
        except Missing:
            return self._new_model(need, right)
        return self._told(held, need, right, need.kind, need.name)

    def written_table(self, need: Need) -> Found:
        """A table that is written: MODIFY if it is there, CREATE TABLE on its schema if not."""
        try:
            held = self._holds(need.kind, need.name, need.holder, "MODIFY")
        except Missing:
            return self._in_schema(need, "CREATE TABLE")
        return self._told(held, need, "MODIFY", need.kind, need.name)

    def location(self, need: Need) -> Found:
        """Files outside of volumes: the external location that the URI lies in."""
        try:
            rows = list(self._asked.pages(f"{UNITY_CATALOG}/external-locations", "external_locations"))
        except REFUSALS as error:
            raise NotToldError(f"external locations can not be listed: {error.message}") from error
        covering = [row for row in rows if _below(need.name, str(row.get("url", "")))]
        if not covering:
            raise NotToldError(f"no external location that this identity may see holds {need.name}")
        name = str(max(covering, key=lambda row: len(str(row["url"])))["name"])
        held = self._holds(need.kind, name, need.holder, need.right)
        return self._told(held, need, need.right, need.kind, name)

    def _new_model(self, need: Need, right: str) -> Found:
        if need.right == needs.REGISTER:
            return self._in_schema(need, "CREATE MODEL")
        registrar = self._registrars.get(need.name)
        if registrar in (None, need.holder):
            return passed("the model is not there yet; whoever registers it owns it")
        return self._in_schema(need, right)

    def _in_schema(self, need: Need, right: str) -> Found:
        schema = need.name.rpartition(".")[0]
        try:
            held = self._holds(needs.SCHEMA, schema, need.holder, right)
        except Missing:
            return missing(f"schema {schema} does not exist. Create it, or correct the workspace's mapping.")
        return self._told(held, need, right, needs.SCHEMA, schema)

    def _told(self, held: bool | None, need: Need, right: str, kind: str, name: str) -> Found:
        if held:
            return passed(f"{need.holder} holds {right} on {kind} {name}")
        grant = remedies.grant(right, kind, name, need.holder)
        if held is None:
            raise NotToldError(
                f"who holds {right} on {kind} {name} is shown to its owner only; if {need.holder} lacks it: {grant}"
            )
        return missing(f"{need.holder} lacks {right} on {kind} {name}. Its owner can run: {grant}")

    def _holds(self, kind: str, name: str, holder: str, *rights: str) -> bool | None:
        """Whether one of the rights is held, by grant or as the owner; None if it can not be found out.

        Raises:
            Missing: there is no such securable.
        """
        person, me = self._asked.person(holder), self._asked.person(self._asked.principal)
        shown = self._effective(kind, name, holder)
        if shown is not None and _granted(shown, person, rights):
            return True
        owner = self._owner(kind, name)
        if owner is not None and owner in person.names:
            return True
        if shown is None:
            return None
        if holder == self._asked.principal:
            return False
        everything = _granted(shown, me, (MANAGE,)) or (owner is not None and owner in me.names)
        return False if everything and person.complete else None

    def _effective(self, kind: str, name: str, holder: str) -> list[Mapping[str, Any]] | None:
        """Assignments as far as they are shown; None if none may be seen."""
        path = f"{UNITY_CATALOG}/effective-permissions/{SECURABLES[kind][0]}/{name}"
        # 0 asks for pages of the platform's own size (GrantsAPI.get_effective).
        try:
            return list(self._asked.pages(path, "privilege_assignments", max_results=0))
        except (Denied, Refused):
            pass
        try:
            return list(self._asked.pages(path, "privilege_assignments", max_results=0, principal=holder))
        except REFUSALS:
            # Missing may here mean the holder as well.
            return None

    def _owner(self, kind: str, name: str) -> str | None:
        try:
            owner = self._asked.get(f"{UNITY_CATALOG}/{SECURABLES[kind][1]}/{name}").get("owner")
        except REFUSALS:
            # The securable is there, or its permissions could not have been asked for.
            return None
        return str(owner) if owner else None


def _others(right: str) -> tuple[str, ...]:
    """Rights that do as well as the one that is named to people."""
    return (MANAGE,) if right == needs.SET_TAGS else ()


def _granted(assignments: list[Mapping[str, Any]], person: Person, rights: tuple[str, ...]) -> bool:
    wanted = set(rights)
    if wanted - {MANAGE}:
        wanted.add(ALL)
    return any(
        str(each.get("privilege", "")).replace("_", " ") in wanted
        for row in assignments
        if row.get("principal") in person.names
        for each in row.get("privileges") or ()
    )


def _below(uri: str, root: str) -> bool:
    return bool(root) and (uri == root or uri.startswith(root.rstrip("/") + "/"))

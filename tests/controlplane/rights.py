"""A ServiceAccount with exactly the rules that a test gives it, and the operator's own requests made as it."""

import time
from pathlib import Path
from typing import Any

import yaml
from kubernetes import client, config

from trainyard.controllers.kube import Kube
from trainyard_localcluster import LocalCluster

ROOT = Path(__file__).resolve().parents[2]
RULES = ROOT / "charts" / "trainyard" / "files" / "rbac"
RBAC = "/apis/rbac.authorization.k8s.io/v1"
AUTHORIZATION = "/apis/authorization.k8s.io/v1"
SETTLES_SECONDS = 30.0
# Granted beside the others, in a rule of its own: once it counts, so do they.
MARKER = {"apiGroups": ["trainyard.dev"], "resources": ["marker"], "verbs": ["get"]}

Rule = dict[str, Any]


def rules_of(file: str) -> list[Rule]:
    """The rules of one of the chart's files, without its ending."""
    found: list[Rule] = yaml.safe_load((RULES / f"{file}.yaml").read_text())
    return found


def without(rules: list[Rule], verb: str, resource: str) -> list[Rule]:
    """The rules but for one verb on one resource; the others of a rule stay. The resource has to be granted once."""
    left: list[Rule] = []
    found = 0
    for rule in rules:
        if verb not in rule["verbs"] or resource not in rule["resources"]:
            left.append(rule)
            continue
        found += 1
        others = [each for each in rule["resources"] if each != resource]
        verbs = [each for each in rule["verbs"] if each != verb]
        left += [rule | {"resources": others}] if others else []
        left += [rule | {"resources": [resource], "verbs": verbs}] if verbs else []
    assert found == 1, f"{verb} {resource} is granted by {found} rules"
    return left


class Holder:
    """A ServiceAccount of that namespace, without rights until they are given."""

    def __init__(self, api: LocalCluster, namespace: str, name: str, dir: Path) -> None:
        self._api, self.namespace, self.name = api, namespace, name
        api.call("POST", f"/api/v1/namespaces/{namespace}/serviceaccounts", {"metadata": {"name": name}})
        kubeconfig = api.service_account_kubeconfig(namespace, name, dir / f"{name}.kubeconfig")
        settings = client.Configuration()
        config.load_kube_config(config_file=str(kubeconfig), client_configuration=settings)  # type: ignore[no-untyped-call]
        self.client = client.ApiClient(settings)
        self.kube = Kube(self.client)
        self._bound: list[str] = []

    def hold(self, rules: list[Rule], *, everywhere: bool = False) -> Kube:
        """Binds the rules, in the namespace or in the whole cluster, and waits until they count."""
        kind = "ClusterRole" if everywhere else "Role"
        where = RBAC if everywhere else f"{RBAC}/namespaces/{self.namespace}"
        name = f"{self.namespace}-{self.name}"
        self._api.call("POST", f"{where}/{kind.lower()}s", {"metadata": {"name": name}, "rules": [*rules, MARKER]})
        binding = {
            "metadata": {"name": name},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": name},
            "subjects": [{"kind": "ServiceAccount", "name": self.name, "namespace": self.namespace}],
        }
        self._bound = [f"{where}/{kind.lower()}bindings/{name}", f"{where}/{kind.lower()}s/{name}"]
        self._api.call("POST", f"{where}/{kind.lower()}bindings", binding)
        deadline = time.monotonic() + SETTLES_SECONDS
        while not self.may("get", "trainyard.dev", "marker"):
            assert time.monotonic() < deadline, "the API server does not learn of the rights"
            time.sleep(0.02)
        return self.kube

    def let_go(self) -> None:
        """Takes its rights away again."""
        for path in self._bound:
            self._api.call("DELETE", path)

    def may(self, verb: str, group: str, resource: str) -> bool:
        """What the API server's authorizer answers of the namespace."""
        plural, _, sub = resource.partition("/")
        attributes = {
            "verb": verb,
            "group": group,
            "resource": plural,
            "subresource": sub,
            "namespace": self.namespace,
        }
        user = f"system:serviceaccount:{self.namespace}:{self.name}"
        groups = ["system:serviceaccounts", f"system:serviceaccounts:{self.namespace}", "system:authenticated"]
        review = {"spec": {"user": user, "groups": groups, "resourceAttributes": attributes}}
        answer = self._api.call("POST", f"{AUTHORIZATION}/subjectaccessreviews", review)
        return bool(answer["status"]["allowed"])

    def rights(self) -> set[tuple[str, str, str]]:
        """Every (verb, resource, name) that it may do in the namespace; the name is empty where any will do."""
        body: Any = {"spec": {"namespace": self.namespace}}
        status = client.AuthorizationV1Api(self.client).create_self_subject_rules_review(body).status
        assert status is not None
        assert not status.incomplete
        return {
            (verb, resource, name)
            for rule in status.resource_rules
            for verb in rule.verbs
            for resource in rule.resources or []
            for name in rule.resource_names or [""]
        }

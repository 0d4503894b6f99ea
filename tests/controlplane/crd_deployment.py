"""ModelDeployment: specs that the API server has to accept, and the mistakes that it refuses. Read by test_crds.py."""

from typing import Any

from tests.controlplane.crd_cases import KEY_63, KEY_128, ONE_GRANTEE, Case, variables
from tests.controlplane.crd_specs import Object, patched

NAMES = ("Team", "-team", "team_a")
SECRET: Object = {"store": "team", "key": "api-key"}
DEPLOYMENT: Object = {
    "workspaceRef": {"name": "team"},
    "models": [{"name": "champion", "model": {"name": "iris", "version": "3"}, "compute": {"class": "serving"}}],
}
CHAMPION: Object = DEPLOYMENT["models"][0] | {
    "model": {"name": "main.ml.iris", "alias": "champion", "followAlias": True},
    "replicas": {"min": 1, "max": 4},
    "scaleToZero": True,
    "env": {"LOG_LEVEL": "info"},
    "secrets": {"API_KEY": SECRET},
    "traffic": 90,
}
CHALLENGER: Object = {
    "name": "challenger",
    "model": {"fromRun": {"name": "iris-2026-11"}},
    "compute": {"class": "serving"},
    "traffic": 10,
}
BOUNDS: Object = {"maxErrorPercent": 1.5, "maxLatencyMilliseconds": 400, "percentile": 99, "minRequests": 50}
SMOKE: Object = {
    "rows": [{"sepal": 5.1, "species": None, "nested": {"any": [1]}}],
    "expect": {"type": "Number", "minimum": 0, "maximum": 2.5},
    "withinSeconds": 20,
}
ROLLOUT: Object = {
    "strategy": "Canary",
    "steps": [
        {"traffic": 5, "holdForSeconds": 60, "checks": {"bounds": BOUNDS, "smoke": SMOKE}},
        {"traffic": 5},
        {"traffic": 50, "holdForSeconds": 0},
    ],
    "checks": {"smoke": SMOKE, "runMetric": {"name": "accuracy", "minimum": 0.9}},
    "promotion": "Manual",
    "readyWithinSeconds": 1800,
}
FULL_DEPLOYMENT: Object = {
    "workspaceRef": {"name": "team", "kind": "MLWorkspace"},
    "endpoint": "iris-live",
    "adopt": True,
    "models": [CHAMPION, CHALLENGER],
    "rollout": ROLLOUT,
    "promote": 3,
    "auth": "Token",
    "requestLogging": {"samplingPercent": 10},
    "permissions": [
        {"group": "analysts", "level": "CAN_QUERY"},
        {"user": "ada@example.com", "level": "CAN_VIEW"},
        {"servicePrincipal": "11111111-2222-3333-4444-555555555555", "level": "CAN_MANAGE"},
    ],
    "tags": {"team": "flowers", "cost centre": ""},
    "driftPolicy": "Revert",
    "expiresAfterSeconds": 86400,
    "recreateForCreator": True,
    "deletionPolicy": "Orphan",
}

SUM = "the traffic of models must sum to 100: change the shares"
PROMOTE = "promote must not go back: it is the number of the revision that you want served, see status.revision"
FIXED = "can not be changed: create a deployment with another name"
ONE_SOURCE = "a model needs exactly one of version, alias or fromRun: add the one that you use, or remove the others"
NAME = "name stands beside version or alias, and not beside fromRun, whose run names the model: add or remove it"
FOLLOW = "followAlias needs an alias to follow: add alias, or remove followAlias"
REPLICAS = "max must not be less than min: raise max or lower min"
STEPS = "steps are for strategy Canary, which needs at least one: add a step, or change the strategy"
ORDER = "the traffic of steps must not fall from one to the next: put them in order"
EARLY_BOUNDS = "bounds need traffic to measure: put them into the checks of a step"
NO_BOUND = "bounds need maxErrorPercent or maxLatencyMilliseconds: add one, or remove bounds"
NO_LIMIT = "runMetric needs minimum or maximum: add one, or remove runMetric"


def case(patch: Object, field: str, message: str, base: Object = DEPLOYMENT) -> Case:
    return Case("ModelDeployment", base, patch, field, message)


def model_case(patch: Object, field: str, message: str) -> Case:
    """One served model with those fields replaced."""
    return case({"models": [patched(DEPLOYMENT["models"][0], patch)]}, f"spec.models[0]{field}", message)


def shares(*traffic: int | None) -> Object:
    """As many served models, with those shares."""
    named = [DEPLOYMENT["models"][0] | {"name": f"m{number}"} for number in range(len(traffic))]
    return {
        "models": [
            each if share is None else each | {"traffic": share} for each, share in zip(named, traffic, strict=True)
        ]
    }


def canary(*steps: Object, **more: Any) -> Object:
    return {"rollout": {"strategy": "Canary", "steps": list(steps), **more}}


DEPLOYMENTS_REFUSED = [
    *(
        case(shares(*traffic), "spec", SUM)
        for traffic in ((50,), (0,), (None, None), (50, 49), (50, None), (100, 1), (40, 40, 40))
    ),
    case(
        {"models": DEPLOYMENT["models"] * 2}
        | {"models": [each | {"traffic": 50} for each in DEPLOYMENT["models"] * 2]},
        "spec.models[1]",
        'Duplicate value: {"name":"champion"}',
    ),
    *(
        model_case({"model": model}, ".model", ONE_SOURCE)
        for model in ({"version": None}, {"alias": "champion"}, {"version": None, "name": "iris"})
    ),
    model_case({"model": {"version": None, "name": "iris", "fromRun": {"name": "a"}}}, ".model", NAME),
    model_case({"model": {"name": None}}, ".model", NAME),
    model_case({"model": {"followAlias": True}}, ".model", FOLLOW),
    model_case({"model": {"followAlias": False}}, ".model", FOLLOW),
    model_case({"replicas": {"min": 3, "max": 2}}, ".replicas", REPLICAS),
    model_case({"env": {"1A": "x"}}, ".env", variables("env")),
    model_case({"env": {"A" * 129: "x"}}, ".env", KEY_128),
    model_case({"secrets": {"a-b": SECRET}}, ".secrets", variables("secrets")),
    model_case({"secrets": {"A" * 129: SECRET}}, ".secrets", KEY_128),
    *(
        case({"rollout": rollout}, "spec.rollout", STEPS)
        for rollout in (
            {"strategy": "Canary"},
            {"strategy": "Canary", "steps": []},
            {"steps": [{"traffic": 5}]},
            {"strategy": "AllAtOnce", "steps": [{"traffic": 5}]},
        )
    ),
    case(canary({"traffic": 20}, {"traffic": 10}), "spec.rollout", ORDER),
    case({"rollout": {"checks": {"bounds": {"maxErrorPercent": 1}}}}, "spec.rollout", EARLY_BOUNDS),
    *(
        case(canary({"traffic": 5, "checks": {"bounds": bounds}}), "spec.rollout.steps[0].checks.bounds", NO_BOUND)
        for bounds in ({}, {"percentile": 95, "minRequests": 10})
    ),
    case(
        canary({"traffic": 5, "checks": {"runMetric": {"name": "loss"}}}),
        "spec.rollout.steps[0].checks.runMetric",
        NO_LIMIT,
    ),
    case({"rollout": {"checks": {"runMetric": {"name": "loss"}}}}, "spec.rollout.checks.runMetric", NO_LIMIT),
    case({"permissions": [{"level": "CAN_QUERY"}]}, "spec.permissions[0]", ONE_GRANTEE),
    case({"permissions": [{"level": "CAN_QUERY", "group": "a", "user": "b"}]}, "spec.permissions[0]", ONE_GRANTEE),
    case({"tags": {"t" * 64: "x"}}, "spec.tags", KEY_63),
]
# Bounds before any traffic, that bound nothing: both rules say so.
DEPLOYMENTS_REFUSED_TWICE: list[tuple[str, Object, set[tuple[str, str]]]] = [
    (
        "ModelDeployment",
        DEPLOYMENT | {"rollout": {"checks": {"bounds": {"percentile": 95}}}},
        {("spec.rollout", EARLY_BOUNDS), ("spec.rollout.checks.bounds", NO_BOUND)},
    ),
]

DEPLOYMENTS_REFUSED_AT_CHANGE = [
    case({"workspaceRef": {"name": "other"}}, "spec.workspaceRef", f"workspaceRef {FIXED}"),
    case({"workspaceRef": {"kind": "ClusterMLWorkspace"}}, "spec.workspaceRef", f"workspaceRef {FIXED}"),
    case({"endpoint": "iris"}, "spec.endpoint", f"endpoint {FIXED}"),
    case({"endpoint": "iris"}, "spec.endpoint", f"endpoint {FIXED}", FULL_DEPLOYMENT),
    case({"endpoint": None}, "spec.endpoint", f"endpoint {FIXED}", FULL_DEPLOYMENT),
    case({"promote": 2}, "spec", PROMOTE, FULL_DEPLOYMENT),
    case(shares(30, 30), "spec", SUM, FULL_DEPLOYMENT),
]

DEPLOYMENTS_ACCEPTED: list[tuple[str, Object]] = [
    ("ModelDeployment", spec)
    for spec in (
        DEPLOYMENT,
        FULL_DEPLOYMENT,
        *(DEPLOYMENT | shares(*traffic) for traffic in ((100,), (100, None), (0, 100), (34, 33, 33), (50, 50, 0))),
        DEPLOYMENT | {"models": [CHALLENGER | {"traffic": 100}]},
        DEPLOYMENT | {"models": [CHALLENGER | {"traffic": 100, "replicas": {"min": 2}}]},
        DEPLOYMENT | {"rollout": {"strategy": "AllAtOnce", "promotion": "Manual"}},
        DEPLOYMENT | canary({"traffic": 99}, checks={"smoke": {"rows": [{}]}}),
        DEPLOYMENT | canary({"traffic": 1}, {"traffic": 1, "checks": {"bounds": {"maxErrorPercent": 0}}}),
    )
]

# What may be changed, with a change of it: each is applied, and taken back.
DEPLOYMENT_CHANGES: list[tuple[Object, Object]] = [
    *(
        (FULL_DEPLOYMENT, {name: value})
        for name, value in {
            "adopt": False,
            "rollout": {"steps": [{"traffic": 10}]},
            "auth": "Key",
            "requestLogging": {"samplingPercent": 20},
            "permissions": [],
            "tags": {"team": "trees"},
            "driftPolicy": "Report",
            "expiresAfterSeconds": 1,
            "recreateForCreator": False,
            "deletionPolicy": "Delete",
        }.items()
    ),
    *(
        (FULL_DEPLOYMENT, {"models": [patched(CHAMPION, patch), CHALLENGER]})
        for patch in (
            {"model": {"alias": None, "followAlias": None, "version": "4"}},
            {"model": {"name": "main.ml.other"}},
            {"compute": {"class": "large"}},
            {"replicas": None},
            {"replicas": {"max": 8}},
            {"scaleToZero": None},
            {"env": {"LOG_LEVEL": "debug"}},
            {"secrets": None},
        )
    ),
    (FULL_DEPLOYMENT, {"models": [CHAMPION | {"traffic": 50}, CHALLENGER | {"traffic": 50}]}),
    (FULL_DEPLOYMENT, {"models": [CHALLENGER | {"traffic": 100}]}),
    *(
        (FULL_DEPLOYMENT, {name: None})
        for name in FULL_DEPLOYMENT
        if name not in ("workspaceRef", "endpoint", "models")
    ),
]

WRONG_DEPLOYMENTS = {
    "spec.endpoint": ("1iris", "iris_live", "iris.live", "-iris", "iris-"),
    "spec.models[].name": ("Champion", "1st", "a_b", "-a", "a-", "a.b"),
    "spec.models[].model.name": ("a.b.c.d", "-a", "a b", "a/b", "a..b", ".a"),
    "spec.models[].model.version": ("3/4", "a b", "@champion"),
    "spec.models[].model.alias": ("1a", "-a", "a b"),
    "spec.models[].model.fromRun.name": NAMES,
    "spec.models[].secrets[].key": ("a b", "a/b", "{{x}}"),
}

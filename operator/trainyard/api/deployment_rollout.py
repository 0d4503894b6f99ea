"""ModelDeployment.spec.rollout: steps and checks. Imported through model_deployment.py."""

from typing import Annotated, Any, Literal

from pydantic import Field

from trainyard.api.base import ApiModel, Seconds, rules

_ROW = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}


class Expectation(ApiModel):
    """What the answer to a smoke request must look like."""

    type: Annotated[
        Literal["Number", "String", "Boolean", "Object", "Array"] | None,
        Field(default=None, description="What each prediction is in JSON. Absent: anything."),
    ] = None
    columns: Annotated[
        list[Annotated[str, Field(min_length=1, max_length=255)]],
        Field(
            default_factory=list, max_length=64, description="Names that each prediction, an object, has. Absent: any."
        ),
    ]
    minimum: Annotated[
        float | None, Field(default=None, description="Smallest number that a prediction may be. Absent: any.")
    ] = None
    maximum: Annotated[
        float | None, Field(default=None, description="Largest number that a prediction may be. Absent: any.")
    ] = None


class Smoke(ApiModel):
    """A request sent to each new model itself, whatever its share. It must answer with one prediction per row."""

    rows: Annotated[
        list[dict[str, Any]],
        Field(
            min_length=1,
            max_length=16,
            description="Rows to score: in each, a value by column.",
            json_schema_extra={"items": _ROW},
        ),
    ]
    expect: Annotated[
        Expectation | None,
        Field(default=None, description="What each prediction must look like. Absent: there must be one per row."),
    ] = None
    within_seconds: Annotated[
        int | None, Field(default=None, ge=1, le=120, description="Seconds that the answer may take. Absent: 60.")
    ] = None


class Bounds(ApiModel):
    """Bounds on what the platform measured of each new model during the step, which needs some traffic."""

    model_config = ApiModel.model_config | {
        "json_schema_extra": rules(
            (
                "has(self.maxErrorPercent) || has(self.maxLatencyMilliseconds)",
                "bounds need maxErrorPercent or maxLatencyMilliseconds: add one, or remove bounds",
            )
        )
    }

    max_error_percent: Annotated[
        float | None,
        Field(
            default=None,
            ge=0,
            le=100,
            description="Largest percent of the requests that may be answered with 5xx. Absent: any.",
        ),
    ] = None
    max_latency_milliseconds: Annotated[
        int | None, Field(default=None, ge=1, le=600_000, description="Largest latency at the percentile. Absent: any.")
    ] = None
    percentile: Annotated[
        Literal[50, 95, 99] | None,
        Field(default=None, description="Percentile of maxLatencyMilliseconds. Absent: 95."),
    ] = None
    min_requests: Annotated[
        int | None,
        Field(
            default=None,
            ge=1,
            le=1_000_000,
            description="Number of requests that must have been answered before the bounds say anything; the step "
            "waits for them. Absent: 1.",
        ),
    ] = None


class RunMetric(ApiModel):
    """A bound on a metric of the MLTrainingRun that made each new model."""

    model_config = ApiModel.model_config | {
        "json_schema_extra": rules(
            (
                "has(self.minimum) || has(self.maximum)",
                "runMetric needs minimum or maximum: add one, or remove runMetric",
            )
        )
    }

    name: Annotated[str, Field(min_length=1, max_length=255, description="Name in status.metrics of the run.")]
    minimum: Annotated[
        float | None, Field(default=None, description="Smallest number that the metric may be. Absent: any.")
    ] = None
    maximum: Annotated[
        float | None, Field(default=None, description="Largest number that the metric may be. Absent: any.")
    ] = None


class Checks(ApiModel):
    """What must hold, or the rollout goes back. Absent: nothing but that the model answers."""

    smoke: Annotated[
        Smoke | None, Field(default=None, description="A request with its expected answer. Absent: none.")
    ] = None
    bounds: Annotated[Bounds | None, Field(default=None, description="Bounds on errors and latency. Absent: none.")] = (
        None
    )
    run_metric: Annotated[
        RunMetric | None, Field(default=None, description="A bound on a metric of the training. Absent: none.")
    ] = None


class Step(ApiModel):
    """A share of the requests, held for a while, then checked."""

    traffic: Annotated[int, Field(ge=1, le=99, description="Percent of the requests that what is new answers.")]
    hold_for_seconds: Annotated[
        int | None,
        Field(
            default=None, ge=0, le=604_800, description="Seconds that the share is held before its checks. Absent: 0."
        ),
    ] = None
    checks: Annotated[
        Checks | None, Field(default=None, description="What must hold after that time. Absent: rollout.checks.")
    ] = None


class Rollout(ApiModel):
    """How a change of what is served gets to where requests are answered."""

    model_config = ApiModel.model_config | {
        "json_schema_extra": rules(
            (
                "(has(self.strategy) && self.strategy == 'Canary') == (has(self.steps) && self.steps.size() > 0)",
                "steps are for strategy Canary, which needs at least one: add a step, or change the strategy",
            ),
            (
                "!has(self.steps) || self.steps.map(s, s.traffic).isSorted()",
                "the traffic of steps must not fall from one to the next: put them in order",
            ),
            (
                "!has(self.checks) || !has(self.checks.bounds)",
                "bounds need traffic to measure: put them into the checks of a step",
            ),
        )
    }

    strategy: Annotated[
        Literal["AllAtOnce", "Canary"] | None,
        Field(
            default=None,
            description="AllAtOnce gives what is new all requests when it is ready (what absence means); Canary gives "
            "it more from step to step.",
        ),
    ] = None
    steps: Annotated[
        list[Step], Field(default_factory=list, max_length=10, description="The steps of a Canary. Absent: none.")
    ]
    checks: Annotated[
        Checks | None,
        Field(
            default=None,
            description="What must hold before anything new gets its first request, also of the first revision. "
            "Absent: that it answers.",
        ),
    ] = None
    promotion: Annotated[
        Literal["Automatic", "Manual"] | None,
        Field(
            default=None,
            description="Automatic goes on after the last step (what absence means); Manual waits there for "
            "spec.promote.",
        ),
    ] = None
    ready_within_seconds: Annotated[
        Seconds | None,
        Field(
            default=None,
            description="Seconds that the platform may take until what is new is ready; then the rollout goes back. "
            "Absent: 3600.",
        ),
    ] = None

"""`trainyard operator`: reads flags and environment, then hands over to the wiring. No logic of its own."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

NAMESPACE_HELP = "Namespace to watch; give it several times for several. Absent: with --all-namespaces, all of them."
HOST_HELP = "Host that assertions may go to beside the public clouds': HOST, HOST:PORT or *.SUFFIX. Repeatable."
ENDPOINT_HOST_HELP = (
    "Host, beside a workspace's own and the public clouds' account hosts, that may serve a token endpoint. Repeatable."
)


class LogFormat(StrEnum):
    """How logs are written."""

    json = "json"
    console = "console"


def operator(
    namespace: Annotated[
        list[str] | None, typer.Option("--namespace", "-n", envvar="TRAINYARD_NAMESPACES", help=NAMESPACE_HELP)
    ] = None,
    all_namespaces: Annotated[
        bool, typer.Option("--all-namespaces", "-A", envvar="TRAINYARD_ALL_NAMESPACES", help="Watch every namespace.")
    ] = False,
    kubeconfig: Annotated[
        Path | None,
        typer.Option(envvar="KUBECONFIG", help="A kubeconfig file. Absent: the pod's own ServiceAccount."),
    ] = None,
    allowed_host: Annotated[list[str] | None, typer.Option(envvar="TRAINYARD_ALLOWED_HOSTS", help=HOST_HELP)] = None,
    allowed_token_host: Annotated[
        list[str] | None, typer.Option(envvar="TRAINYARD_ALLOWED_TOKEN_HOSTS", help=ENDPOINT_HOST_HELP)
    ] = None,
    databricks_audience: Annotated[
        str, typer.Option(envvar="TRAINYARD_DATABRICKS_AUDIENCE", help="Audience of assertions for Databricks.")
    ] = "trainyard-databricks",
    poll_seconds: Annotated[
        float, typer.Option(envvar="TRAINYARD_POLL_SECONDS", min=0.1, help="Seconds between looks at remote runs.")
    ] = 10.0,
    workspace_recheck_seconds: Annotated[
        float,
        typer.Option(envvar="TRAINYARD_WORKSPACE_RECHECK_SECONDS", min=1, help="Seconds between workspace checks."),
    ] = 300.0,
    deletion_deadline_seconds: Annotated[
        float,
        typer.Option(
            envvar="TRAINYARD_DELETION_DEADLINE_SECONDS",
            min=1,
            help="Seconds after which a deleted run is let go although its platform never confirmed the stop.",
        ),
    ] = 900.0,
    settle_seconds: Annotated[
        float,
        typer.Option(
            envvar="TRAINYARD_SETTLE_SECONDS",
            min=1,
            help="Seconds that a submission may be under way unseen; a stopped run is searched for that long.",
        ),
    ] = 30.0,
    tell_after_seconds: Annotated[
        float,
        typer.Option(
            envvar="TRAINYARD_TELL_AFTER_SECONDS",
            min=0,
            help="Seconds that trouble with a platform lasts before the status says so; less is not worth a write.",
        ),
    ] = 15.0,
    log_format: Annotated[
        LogFormat, typer.Option(envvar="TRAINYARD_LOG_FORMAT", help="Form of the logs on stderr.")
    ] = LogFormat.json,
    audit_file: Annotated[
        str, typer.Option(envvar="TRAINYARD_AUDIT_FILE", help="File for audit records; - is stdout.")
    ] = "-",
    liveness_port: Annotated[
        int | None, typer.Option(envvar="TRAINYARD_LIVENESS_PORT", help="Port of /healthz. Absent: none.")
    ] = None,
    metrics_port: Annotated[
        int | None, typer.Option(envvar="TRAINYARD_METRICS_PORT", help="Port of /metrics. Absent: none.")
    ] = None,
) -> None:
    """Reconcile MLWorkspaces and MLTrainingRuns until told to stop."""
    from trainyard.cli.wiring import run_operator  # late: kopf and kubernetes cost a second that --help need not pay
    from trainyard.controllers.settings import OperatorSettings
    from trainyard.core.snapshot import Limits

    if not namespace and not all_namespaces:
        raise typer.BadParameter("say what to watch: --all-namespaces, or --namespace NAME")
    if namespace and all_namespaces:
        raise typer.BadParameter("--all-namespaces and --namespace exclude each other")
    settings = OperatorSettings(
        namespaces=tuple(_split(namespace)),
        kubeconfig=kubeconfig,
        allowed_hosts=tuple(_split(allowed_host)),
        allowed_token_hosts=tuple(_split(allowed_token_host)),
        databricks_audience=databricks_audience,
        poll_seconds=poll_seconds,
        workspace_recheck_seconds=workspace_recheck_seconds,
        log_format=log_format.value,
        audit_file=audit_file,
        liveness_port=liveness_port,
        metrics_port=metrics_port,
        limits=Limits(
            deletion_deadline=deletion_deadline_seconds,
            settle_before_giving_up_search=settle_seconds,
            trouble_before_told=tell_after_seconds,
        ),
    )
    raise typer.Exit(run_operator(settings))


def _split(values: list[str] | None) -> list[str]:
    """Each value, also where the environment variable held several separated by commas or spaces."""
    return [part for value in values or [] for part in value.replace(",", " ").split()]

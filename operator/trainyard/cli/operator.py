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
ISSUER_HELP = (
    "OpenID provider whose tokens workspaces may use (identity.oidc): its issuer URL, or HOST, HOST:PORT or *.SUFFIX "
    "for every issuer there. Repeatable. Absent: none."
)
CLOUD_HELP = "File (JSON) that describes an Azure cloud beside the public, US government and China ones. Repeatable."
GIT_HOST_HELP = (
    "Host, beside the public forges', that source code may be fetched from: HOST, HOST:PORT or *.SUFFIX. Repeatable."
)
CLUSTER_HELP = "What this cluster is called on platforms. Absent: the uid of the namespace kube-system."


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
    allowed_issuer: Annotated[
        list[str] | None, typer.Option(envvar="TRAINYARD_ALLOWED_ISSUERS", help=ISSUER_HELP)
    ] = None,
    databricks_audience: Annotated[
        str, typer.Option(envvar="TRAINYARD_DATABRICKS_AUDIENCE", help="Audience of assertions for Databricks.")
    ] = "trainyard-databricks",
    azure_cloud: Annotated[list[str] | None, typer.Option(envvar="TRAINYARD_AZURE_CLOUDS", help=CLOUD_HELP)] = None,
    imds_endpoint: Annotated[
        str, typer.Option(envvar="TRAINYARD_IMDS_ENDPOINT", help="Azure's instance metadata service: http://HOST.")
    ] = "http://169.254.169.254",
    poll_seconds: Annotated[
        float, typer.Option(envvar="TRAINYARD_POLL_SECONDS", min=0.1, help="Seconds between looks at remote runs.")
    ] = 10.0,
    workspace_recheck_seconds: Annotated[
        float,
        typer.Option(envvar="TRAINYARD_WORKSPACE_RECHECK_SECONDS", min=1, help="Seconds between workspace checks."),
    ] = 300.0,
    recheck_seconds: Annotated[
        float,
        typer.Option(
            envvar="TRAINYARD_RECHECK_SECONDS",
            min=1,
            help="Seconds between looks at what keeps a stalled run or deployment back, missing rights included.",
        ),
    ] = 60.0,
    deletion_deadline_seconds: Annotated[
        float,
        typer.Option(
            envvar="TRAINYARD_DELETION_DEADLINE_SECONDS",
            min=1,
            help="Seconds after which a deleted run or deployment is let go although its platform never confirmed it.",
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
    serving_poll_seconds: Annotated[
        float,
        typer.Option(
            envvar="TRAINYARD_SERVING_POLL_SECONDS", min=0.1, help="Seconds between looks at an endpoint that moves."
        ),
    ] = 10.0,
    serving_recheck_seconds: Annotated[
        float,
        typer.Option(
            envvar="TRAINYARD_SERVING_RECHECK_SECONDS",
            min=0.1,
            help="Seconds between looks at an endpoint that is as it should be, and at an alias that is followed.",
        ),
    ] = 60.0,
    tell_after_seconds: Annotated[
        float,
        typer.Option(
            envvar="TRAINYARD_TELL_AFTER_SECONDS",
            min=0,
            help="Seconds that trouble with a platform lasts before the status says so; less is not worth a write.",
        ),
    ] = 15.0,
    cluster_name: Annotated[str | None, typer.Option(envvar="TRAINYARD_CLUSTER_NAME", help=CLUSTER_HELP)] = None,
    allowed_git_host: Annotated[
        list[str] | None, typer.Option(envvar="TRAINYARD_ALLOWED_GIT_HOSTS", help=GIT_HOST_HELP)
    ] = None,
    git_ca_file: Annotated[
        Path | None,
        typer.Option(envvar="TRAINYARD_GIT_CA_FILE", help="Certificates (PEM) for git, instead of the system's."),
    ] = None,
    git_work_dir: Annotated[
        Path | None,
        typer.Option(
            envvar="TRAINYARD_GIT_WORK_DIR",
            help="Folder for what is being fetched, of this process alone. Absent: a fresh temporary one.",
        ),
    ] = None,
    git_seconds: Annotated[
        float, typer.Option(envvar="TRAINYARD_GIT_SECONDS", min=1, help="Seconds that one fetch may take.")
    ] = 60.0,
    git_max_bytes: Annotated[
        int, typer.Option(envvar="TRAINYARD_GIT_MAX_BYTES", min=1, help="Bytes that a run's source may have.")
    ] = 20 * 1024 * 1024,
    git_max_files: Annotated[
        int, typer.Option(envvar="TRAINYARD_GIT_MAX_FILES", min=1, help="Files that a run's source may have.")
    ] = 500,
    git_fetch_bytes: Annotated[
        int,
        typer.Option(
            envvar="TRAINYARD_GIT_FETCH_BYTES", min=1, help="Bytes that one fetch may write to disk, history left out."
        ),
    ] = 256 * 1024 * 1024,
    log_characters: Annotated[
        int,
        typer.Option(
            envvar="TRAINYARD_LOG_CHARACTERS",
            min=0,
            max=262_144,
            help="Last characters of each task's log that an MLRunLog keeps; 0 makes none.",
        ),
    ] = 65_536,
    s3_endpoint: Annotated[
        str | None, typer.Option(envvar="TRAINYARD_S3_ENDPOINT", help="URL of what speaks S3 in Amazon's stead.")
    ] = None,
    sts_endpoint: Annotated[
        str | None, typer.Option(envvar="TRAINYARD_STS_ENDPOINT", help="URL of what speaks STS in Amazon's stead.")
    ] = None,
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
    """Reconcile MLWorkspaces, MLTrainingRuns and ModelDeployments until told to stop."""
    from trainyard.cli.wiring import run_operator  # late: kopf and kubernetes cost a second that --help need not pay
    from trainyard.controllers.settings import OperatorSettings, StorageEndpoints
    from trainyard.core.serving.snapshot import ServingLimits
    from trainyard.core.snapshot import Limits
    from trainyard.identity.modes import IdentitySettings
    from trainyard.sources.git import GitLimits

    if not namespace and not all_namespaces:
        raise typer.BadParameter("say what to watch: --all-namespaces, or --namespace NAME")
    if namespace and all_namespaces:
        raise typer.BadParameter("--all-namespaces and --namespace exclude each other")
    settings = OperatorSettings(
        namespaces=tuple(split(namespace)),
        kubeconfig=kubeconfig,
        allowed_hosts=tuple(split(allowed_host)),
        allowed_token_hosts=tuple(split(allowed_token_host)),
        identity=IdentitySettings(
            databricks_audience=databricks_audience,
            allowed_issuers=tuple(split(allowed_issuer)),
            issuer_token_hosts=tuple(split(allowed_token_host)),
            imds_endpoint=imds_endpoint,
        ),
        azure_clouds=tuple(Path(path) for path in split(azure_cloud)),
        poll_seconds=poll_seconds,
        workspace_recheck_seconds=workspace_recheck_seconds,
        cluster_name=cluster_name,
        allowed_git_hosts=tuple(split(allowed_git_host)),
        git_ca_file=git_ca_file,
        git_work_dir=git_work_dir,
        git_limits=GitLimits(
            seconds=git_seconds, total_bytes=git_max_bytes, files=git_max_files, fetched_bytes=git_fetch_bytes
        ),
        log_characters=log_characters,
        storage=StorageEndpoints(s3=s3_endpoint, sts=sts_endpoint),
        log_format=log_format.value,
        audit_file=audit_file,
        liveness_port=liveness_port,
        metrics_port=metrics_port,
        limits=Limits(
            recheck_stalled=recheck_seconds,
            deletion_deadline=deletion_deadline_seconds,
            settle_before_giving_up_search=settle_seconds,
            trouble_before_told=tell_after_seconds,
        ),
        serving=ServingLimits(
            poll=serving_poll_seconds,
            recheck_served=serving_recheck_seconds,
            recheck_stalled=recheck_seconds,
            deletion_deadline=deletion_deadline_seconds,
            trouble_before_told=tell_after_seconds,
        ),
    )
    raise typer.Exit(run_operator(settings))


def split(values: list[str] | None) -> list[str]:
    """Each value, also where the environment variable held several separated by commas or spaces."""
    return [part for value in values or [] for part in value.replace(",", " ").split()]

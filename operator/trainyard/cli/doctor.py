"""`trainyard doctor`, as the command line shows it: arguments in, one examination, its links as they are found.

Registered by main.py. What does the work is in `client.doctor` and imported when the command runs.
"""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from trainyard.cli.operator import CLOUD_HELP, ENDPOINT_HOST_HELP, HOST_HELP, ISSUER_HELP, split
from trainyard.cli.options import Context, Kubeconfig, Verbose, Where

if TYPE_CHECKING:
    from trainyard.cli.examining import Flags

SECONDS = 180.0


class Report(StrEnum):
    """Forms of what was found, on stdout."""

    table = "table"
    json = "json"


def doctor(
    workspace: Annotated[str, typer.Argument(metavar="WORKSPACE", help="Name of the MLWorkspace.")],
    cluster: Annotated[
        bool, typer.Option("--cluster", help="WORKSPACE is a ClusterMLWorkspace; -n says whose runs use it.")
    ] = False,
    namespace: Annotated[
        str | None,
        typer.Option("--namespace", "-n", help="Namespace of the runs. Absent: the context's, or the pod's own."),
    ] = None,
    output: Annotated[Report, typer.Option("--output", "-o", help="Form of the result on stdout.")] = Report.table,
    timeout: Annotated[float, typer.Option(min=1, help="Seconds for all links together.")] = SECONDS,
    operator: Annotated[
        str,
        typer.Option(
            envvar="TRAINYARD_OPERATOR",
            help="The operator, as NAMESPACE/NAME of its Deployment and ServiceAccount.",
        ),
    ] = "trainyard-system/trainyard",
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
    audit_file: Annotated[
        Path | None, typer.Option(help="File for the audit records of this command's requests. Absent: none is kept.")
    ] = None,
    context: Context = None,
    kubeconfig: Kubeconfig = None,
    verbose: Verbose = False,
) -> None:
    """Look at each link from a workspace to its machines, and print what mends what is wrong. Starts nothing."""
    from trainyard.cli import examining

    space, _, name = operator.partition("/")
    if not space or not name or "/" in name:
        raise typer.BadParameter("--operator must be NAMESPACE/NAME")
    flags: Flags = examining.Flags(
        operator=(space, name),
        allowed_hosts=tuple(split(allowed_host)),
        allowed_token_hosts=tuple(split(allowed_token_host)),
        allowed_issuers=tuple(split(allowed_issuer)),
        databricks_audience=databricks_audience,
        azure_clouds=tuple(Path(path) for path in split(azure_cloud)),
        imds_endpoint=imds_endpoint,
        audit_file=audit_file,
    )
    where = Where(namespace, context, kubeconfig, verbose)
    kind = "ClusterMLWorkspace" if cluster else "MLWorkspace"
    examining.examine(where, kind, workspace, flags, timeout, as_json=output is Report.json)

"""The command line: `trainyard-sandbox serve --dir DIR`.

Serves until interrupted. Prints where it is to stderr, and nothing secret.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from pathlib import Path

from trainyard_sandbox.engine.dispatch import ENGINES
from trainyard_sandbox.server import Settings, serve
from trainyard_sandbox.state import SandboxState


def _issuer(text: str) -> tuple[str, Path]:
    issuer, separator, ca_file = text.rpartition("=")
    if not separator or not issuer.startswith("https://"):
        raise argparse.ArgumentTypeError("expected URL=CAFILE with an https URL")
    return issuer, Path(ca_file)


def parser() -> argparse.ArgumentParser:
    """The command line's grammar."""
    top = argparse.ArgumentParser(prog="trainyard-sandbox", description="A local stand-in for Databricks.")
    commands = top.add_subparsers(dest="command", required=True)
    start = commands.add_parser("serve", help="serve until interrupted")
    start.add_argument("--dir", type=Path, required=True, help="where everything is kept; sandbox.json appears in it")
    start.add_argument(
        "--engine", choices=ENGINES, default="run", help="really run what is submitted, or pretend from scripts"
    )
    start.add_argument(
        "--trust-issuer",
        type=_issuer,
        action="append",
        default=[],
        metavar="URL=CAFILE",
        help="the CA that vouches for an identity provider's https; may be repeated",
    )
    start.add_argument(
        "--lazy-mlflow",
        action="store_true",
        help="be ready before the MLflow server is; the first request that needs it waits some seconds",
    )
    return top


def _ready(state: SandboxState) -> None:
    print(
        f"sandbox ready: {state.base_url} (details in {state.data_dir / 'sandbox.json'})", file=sys.stderr, flush=True
    )


def main(arguments: list[str] | None = None) -> int:
    """Entry point; returns the exit status."""
    options = parser().parse_args(arguments)
    settings = Settings(options.dir.resolve(), options.engine, dict(options.trust_issuer), options.lazy_mlflow)
    try:
        asyncio.run(serve(settings, _ready))
    except ValueError as error:
        print(f"trainyard-sandbox: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())

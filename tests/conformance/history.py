"""Every version that a resource ever had, as a watch of the API server tells them."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from stand import Process, wait_for
from trainyard_localcluster import LocalCluster
from trainyard_localcluster.cluster import kubectl_program


class History:
    """Watches the resources of a kind in all namespaces from its making on. Use it as a context manager."""

    def __init__(self, cluster: LocalCluster, dir: Path, plural: str = "mltrainingruns") -> None:
        command = [kubectl_program(), "--kubeconfig", str(cluster.kubeconfig), "get", plural]
        command += ["--all-namespaces", "--watch", "--output-watch-events", "--output=json"]
        env = {"PATH": os.environ["PATH"], "HOME": str(dir), "KUBERC": "off"}
        self._process = Process("the watch", command, dir / f"{plural}.json", env)

    def __enter__(self) -> "History":
        return self

    def __exit__(self, *_: object) -> None:
        self._process.stop()

    def _told(self) -> Iterator[dict[str, Any]]:
        """Every event so far; the last one may not be whole yet."""
        text, at, decoder = self._process.log.read_text(), 0, json.JSONDecoder()
        while (at := text.find("{", at)) >= 0:
            try:
                event, at = decoder.raw_decode(text, at)
            except ValueError:
                return
            yield event

    def of(self, namespace: str, name: str, version: str | None) -> list[dict[str, Any]]:
        """The versions of one of them up to that resourceVersion; None: up to its deletion."""

        def whole() -> list[dict[str, Any]] | None:
            self._process.check()
            versions = []
            for event in self._told():
                metadata = event["object"]["metadata"]
                if (metadata["namespace"], metadata["name"]) != (namespace, name):
                    continue
                versions.append(event["object"])
                if (event["type"] == "DELETED") if version is None else metadata["resourceVersion"] == version:
                    return versions
            return None

        return wait_for(f"the history of {namespace}/{name}", whole)

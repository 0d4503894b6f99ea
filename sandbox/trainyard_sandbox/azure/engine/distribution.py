"""The processes of a job: how many, on which node, and what tells each its place.

command.py starts them.

Azure Machine Learning documentation, "Distributed GPU training guide": with PyTorch, one process per
`process_count_per_instance` and node, with MASTER_ADDR, MASTER_PORT, WORLD_SIZE, NODE_RANK, RANK, LOCAL_RANK; with MPI,
Open MPI's own variables; with TensorFlow, TF_CONFIG. Names of log files: azure-ai-ml `constants/_job/job.py`,
JobLogPattern (`user_logs/std_log.txt`, or one with its process number). A job on several nodes without a distribution
runs its command once here; what happens there is not published.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from trainyard_sandbox.azure.engine.logs import STD_LOG

MAX_PROCESSES = 16
"""More are refused: all nodes of a job are this one machine."""


@dataclass(frozen=True)
class JobProcess:
    """One process: its number, its node, its log file and its variables."""

    rank: int = 0
    node: int = 0
    log: str = STD_LOG
    variables: dict[str, str] = field(default_factory=dict)


def processes(definition: dict[str, Any], port: int) -> list[JobProcess]:
    """The processes of a command job or trial, first the one that decides.

    Args:
        port: a free port for the processes to meet at.
    """
    nodes = int((definition.get("resources") or {}).get("instanceCount", 1))
    distribution = definition.get("distribution") or {}
    kind = distribution.get("distributionType")
    if kind == "TensorFlow":
        return _tensorflow(distribution, nodes, port)
    if kind not in ("PyTorch", "Mpi"):
        return [JobProcess()]
    each = int(distribution.get("processCountPerInstance", 1))
    variables = _pytorch if kind == "PyTorch" else _mpi
    total = nodes * each
    return [
        JobProcess(rank, rank // each, _log(rank, total), variables(rank, each, total, port)) for rank in range(total)
    ]


def count(definition: dict[str, Any]) -> int:
    """How many processes a job has."""
    return len(processes(definition, 0))


def _log(rank: int, total: int) -> str:
    return f"user_logs/std_log_process_{rank:0{len(str(total - 1))}d}.txt" if total > 1 else STD_LOG


def _pytorch(rank: int, each: int, total: int, port: int) -> dict[str, str]:
    return {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "WORLD_SIZE": str(total),
        "NODE_RANK": str(rank // each),
        "RANK": str(rank),
        "LOCAL_RANK": str(rank % each),
    }


def _mpi(rank: int, each: int, total: int, port: int) -> dict[str, str]:
    return {
        "OMPI_COMM_WORLD_RANK": str(rank),
        "OMPI_COMM_WORLD_SIZE": str(total),
        "OMPI_COMM_WORLD_LOCAL_RANK": str(rank % each),
        "OMPI_COMM_WORLD_LOCAL_SIZE": str(each),
        "AZ_BATCH_MASTER_NODE": f"127.0.0.1:{port}",
        "AZ_BATCHAI_MPI_MASTER_NODE": "127.0.0.1",
    }


def _tensorflow(distribution: dict[str, Any], nodes: int, port: int) -> list[JobProcess]:
    """Workers (as many as nodes unless said) and parameter servers, each with TF_CONFIG."""
    workers, servers = int(distribution.get("workerCount", nodes)), int(distribution.get("parameterServerCount", 0))
    tasks = [("worker", number) for number in range(workers)] + [("ps", number) for number in range(servers)]
    addresses = {task: f"127.0.0.1:{port + place}" for place, task in enumerate(tasks)}
    cluster: dict[str, list[str]] = {}
    for (kind, _), address in addresses.items():
        cluster.setdefault(kind, []).append(address)
    return [
        JobProcess(
            rank,
            rank % nodes,
            STD_LOG if len(tasks) == 1 else f"user_logs/std_log_{kind}_{number}.txt",
            {"TF_CONFIG": json.dumps({"cluster": cluster, "task": {"type": kind, "index": number}})},
        )
        for rank, (kind, number) in enumerate(tasks)
    ]

"""The node types and Databricks runtimes that this workspace has.

cluster_spec.py refuses others; databricks/clusters.py lists them. A small choice of real ones: of a real workspace the
lists are longer and of one cloud, here those of all three stand side by side, so that one sandbox does for any example.

Read in: databricks-sdk `service/compute.py` NodeType, SparkVersion; Databricks documentation, "Supported instance
types", "Databricks Runtime release notes" and "GPU-enabled compute" (GPU nodes need a GPU runtime).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class NodeType:
    """One kind of machine."""

    node_type_id: str
    cloud: str
    cores: float
    memory_mb: int
    category: str
    gpus: int = 0

    def shown(self) -> dict[str, Any]:
        """As clusters/list-node-types shows it."""
        return {
            "node_type_id": self.node_type_id,
            "memory_mb": self.memory_mb,
            "num_cores": self.cores,
            "description": self.node_type_id,
            "instance_type_id": self.node_type_id,
            "category": self.category,
            "num_gpus": self.gpus,
            "is_deprecated": False,
            "is_hidden": False,
            "node_instance_type": {"instance_type_id": self.node_type_id},
        }


_ALL = (
    NodeType("m5.large", "aws", 2, 8192, "General Purpose"),
    NodeType("m5d.large", "aws", 2, 8192, "General Purpose"),
    NodeType("m5d.xlarge", "aws", 4, 16384, "General Purpose"),
    NodeType("m5d.2xlarge", "aws", 8, 32768, "General Purpose"),
    NodeType("m6gd.large", "aws", 2, 8192, "General Purpose"),
    NodeType("i3.xlarge", "aws", 4, 31232, "Storage Optimized"),
    NodeType("i3.2xlarge", "aws", 8, 62464, "Storage Optimized"),
    NodeType("r5d.xlarge", "aws", 4, 32768, "Memory Optimized"),
    NodeType("c5d.2xlarge", "aws", 8, 16384, "Compute Optimized"),
    NodeType("g4dn.xlarge", "aws", 4, 16384, "GPU Accelerated", 1),
    NodeType("g5.xlarge", "aws", 4, 16384, "GPU Accelerated", 1),
    NodeType("g5.12xlarge", "aws", 48, 196608, "GPU Accelerated", 4),
    NodeType("p4d.24xlarge", "aws", 96, 1179648, "GPU Accelerated", 8),
    NodeType("Standard_DS3_v2", "azure", 4, 14336, "General Purpose"),
    NodeType("Standard_D4s_v5", "azure", 4, 16384, "General Purpose"),
    NodeType("Standard_D4ds_v5", "azure", 4, 16384, "General Purpose"),
    NodeType("Standard_D8ds_v5", "azure", 8, 32768, "General Purpose"),
    NodeType("Standard_E4ds_v5", "azure", 4, 32768, "Memory Optimized"),
    NodeType("Standard_F4s", "azure", 4, 8192, "Compute Optimized"),
    NodeType("Standard_NC4as_T4_v3", "azure", 4, 28672, "GPU Accelerated", 1),
    NodeType("Standard_NC6s_v3", "azure", 6, 114688, "GPU Accelerated", 1),
    NodeType("Standard_NC24ads_A100_v4", "azure", 24, 225280, "GPU Accelerated", 1),
    NodeType("n1-standard-4", "gcp", 4, 15360, "General Purpose"),
    NodeType("n2-standard-4", "gcp", 4, 16384, "General Purpose"),
    NodeType("n2-highmem-4", "gcp", 4, 32768, "Memory Optimized"),
    NodeType("g2-standard-4", "gcp", 4, 16384, "GPU Accelerated", 1),
    NodeType("a2-highgpu-1g", "gcp", 12, 87040, "GPU Accelerated", 1),
)
NODE_TYPES = {node.node_type_id: node for node in _ALL}

_RELEASES = {"13.3": "3.4.1", "14.3": "3.5.0", "15.4": "3.5.0", "16.4": "3.5.2", "17.3": "4.0.0"}
"""LTS release to Apache Spark version."""


def _runtimes() -> dict[str, str]:
    found = {}
    for release, spark in _RELEASES.items():
        # 16.4 is published for both; before it Scala 2.12 only, after it 2.13 only (release notes of 16.4 LTS and
        # 17.0).
        scalas = {"16.4": ("2.12", "2.13"), "17.3": ("2.13",)}.get(release, ("2.12",))
        for scala in scalas:
            label = f"(includes Apache Spark {spark}, Scala {scala})"
            found[f"{release}.x-scala{scala}"] = f"{release} LTS {label}"
            found[f"{release}.x-photon-scala{scala}"] = f"{release} LTS Photon {label}"
            found[f"{release}.x-aarch64-scala{scala}"] = f"{release} LTS aarch64 {label}"
            found[f"{release}.x-cpu-ml-scala{scala}"] = f"{release} LTS ML {label}"
            found[f"{release}.x-gpu-ml-scala{scala}"] = f"{release} LTS ML GPU {label}"
    return found


SPARK_VERSIONS = _runtimes()
"""Key to name, as clusters/spark-versions lists them."""


def is_gpu_runtime(spark_version: str) -> bool:
    """Whether the runtime has the GPU drivers."""
    return "-gpu-" in spark_version

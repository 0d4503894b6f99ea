"""VM sizes that the sandbox's region offers: vCPUs, family and GPUs, for quotas and to refuse names that do not exist.

compute_store.py counts quota with it, computes.py and jobs.py look sizes up. Names and vCPUs: Azure documentation,
"Sizes for virtual machines in Azure". Azure compares sizes without regard to case.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class VmSize:
    """One size: its name as Azure writes it, its quota family, vCPUs and GPUs."""

    name: str
    family: str
    cores: int
    gpus: int = 0


SIZES = (
    VmSize("Standard_A2_v2", "standardAv2Family", 2),
    VmSize("Standard_A4_v2", "standardAv2Family", 4),
    VmSize("Standard_D2_v2", "standardDv2Family", 2),
    VmSize("Standard_D2s_v3", "standardDSv3Family", 2),
    VmSize("Standard_D4s_v3", "standardDSv3Family", 4),
    VmSize("Standard_D8s_v3", "standardDSv3Family", 8),
    VmSize("Standard_DS1_v2", "standardDSv2Family", 1),
    VmSize("Standard_DS2_v2", "standardDSv2Family", 2),
    VmSize("Standard_DS3_v2", "standardDSv2Family", 4),
    VmSize("Standard_DS4_v2", "standardDSv2Family", 8),
    VmSize("Standard_DS5_v2", "standardDSv2Family", 16),
    VmSize("Standard_DS11_v2", "standardDSv2Family", 2),
    VmSize("Standard_DS12_v2", "standardDSv2Family", 4),
    VmSize("Standard_D4ds_v5", "standardDDSv5Family", 4),
    VmSize("Standard_D8ds_v5", "standardDDSv5Family", 8),
    VmSize("Standard_E4s_v3", "standardESv3Family", 4),
    VmSize("Standard_E8s_v3", "standardESv3Family", 8),
    VmSize("Standard_E4ds_v4", "standardEDSv4Family", 4),
    VmSize("Standard_F4s_v2", "standardFSv2Family", 4),
    VmSize("Standard_F16s_v2", "standardFSv2Family", 16),
    VmSize("Standard_NC6s_v3", "standardNCSv3Family", 6, 1),
    VmSize("Standard_NC12s_v3", "standardNCSv3Family", 12, 2),
    VmSize("Standard_NC24s_v3", "standardNCSv3Family", 24, 4),
    VmSize("Standard_NC4as_T4_v3", "Standard NCASv3_T4 Family", 4, 1),
    VmSize("Standard_NC64as_T4_v3", "Standard NCASv3_T4 Family", 64, 4),
    VmSize("Standard_NC24ads_A100_v4", "StandardNCADSA100v4Family", 24, 1),
    VmSize("Standard_NC96ads_A100_v4", "StandardNCADSA100v4Family", 96, 4),
    VmSize("Standard_ND40rs_v2", "standardNDSv2Family", 40, 8),
    VmSize("Standard_ND96asr_v4", "Standard NDASv4_A100 Family", 96, 8),
    VmSize("Standard_ND96isr_H100_v5", "standardNDSv5H100Family", 96, 8),
)
_BY_NAME = {size.name.lower(): size for size in SIZES}

SERVERLESS_DEFAULT = _BY_NAME["standard_ds3_v2"]
"""What serverless compute takes when the job names no size. Which one it is in truth depends on the quota left (Azure
Machine Learning documentation, "Model training on serverless compute")."""


def vm_size(name: str) -> VmSize | None:
    """The size with this name, in any case."""
    return _BY_NAME.get(name.lower())

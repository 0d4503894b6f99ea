"""What this process's environment says to vendors' SDKs, taken away before one of them is imported.

Used by the wiring of the operator and by the doctor. Light: imported for --help.
"""

import os
from collections.abc import MutableMapping

# Prefixes of what vendors' SDKs read: credentials, and where to send them (azure-identity _constants.py, azure-ai-ml
# constants/_common.py, databricks-sdk config.py).
FOREIGN = ("DATABRICKS_", "AZURE_", "AZUREML_", "ARM_", "MSI_", "IDENTITY_")


def drop_foreign_credentials(environment: MutableMapping[str, str] = os.environ) -> None:
    """No SDK may find an identity to offer on a platform by itself, and flags alone say where tokens go."""
    for name in [name for name in environment if name.startswith(FOREIGN)]:
        del environment[name]

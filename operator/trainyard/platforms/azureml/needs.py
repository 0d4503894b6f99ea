"""The words in which rights and things are asked for: the kinds and rights of `platforms.base.Need` on Azure ML.

Filled in by `translate` (pure), looked up by `Connection.preflight`. Actions are those of Azure's resource provider
(https://learn.microsoft.com/azure/role-based-access-control/permissions/ai-machine-learning).
"""

# Kinds, with what `Need.name` then holds.
WORKSPACE = "workspace"  # always THIS; the right is an action
COMPUTE = "compute"  # name of a compute of the workspace
VM_SIZE = "vm-size"  # Standard_DS3_v2, for serverless machines
VM_QUOTA = "vm-quota"  # the same; whether the quota allows for it, which VM_SIZE looks at as well
ENVIRONMENT = "environment"  # NAME:VERSION, NAME@latest, or azureml://registries/...
DATA = "data"  # NAME:VERSION of a data asset
MODEL = "model"  # NAME:VERSION of a registered model that is read
DATASTORE = "datastore"  # name of a datastore of the workspace
JOB = "job"  # name of the job that is copied
MANAGED_IDENTITY = "managed-identity"  # client id; it has to be assigned to the compute
SERVED_MODEL = "served-model"  # NAME:VERSION of a registered model that is to be served
SERVING_QUOTA = "serving-quota"  # Standard_DS3_v2, for the machines of an endpoint's deployments together

THIS = "this workspace"

# Rights on things.
EXISTS = "EXISTS"
READ = "READ"  # a datastore: that it is there, for reading
WRITE = "WRITE"  # a datastore: that it is there, for writing
ASSIGNED = "ASSIGNED"  # a managed identity
SERVABLE = "SIGNATURE AND SERVER"  # a model: what serving it without code takes
QUOTA = "QUOTA"

# Rights on the workspace.
_PROVIDER = "Microsoft.MachineLearningServices/workspaces"
JOBS_WRITE = f"{_PROVIDER}/jobs/write"
JOBS_READ = f"{_PROVIDER}/jobs/read"
JOBS_CANCEL = f"{_PROVIDER}/jobs/cancel/action"
CODE_WRITE = f"{_PROVIDER}/codes/versions/write"
ENVIRONMENT_WRITE = f"{_PROVIDER}/environments/versions/write"
MODEL_WRITE = f"{_PROVIDER}/models/versions/write"
ENDPOINTS_READ = f"{_PROVIDER}/onlineEndpoints/read"
ENDPOINTS_WRITE = f"{_PROVIDER}/onlineEndpoints/write"
ENDPOINTS_DELETE = f"{_PROVIDER}/onlineEndpoints/delete"
ENDPOINTS_SCORE = f"{_PROVIDER}/onlineEndpoints/score/action"
ENDPOINTS_KEYS = f"{_PROVIDER}/onlineEndpoints/listKeys/action"
DEPLOYMENTS_WRITE = f"{_PROVIDER}/onlineEndpoints/deployments/write"


def reserved(machines: int) -> int:
    """The machines that the quota has to have for a deployment of so many: a fifth more, for upgrades.

    Azure documentation, "Manage and increase quotas", virtual machine quota allocation for deployment:
    ceil(1.2 * number of instances).
    """
    return -(-machines * 6 // 5)

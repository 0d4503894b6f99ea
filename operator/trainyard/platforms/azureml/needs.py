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

THIS = "this workspace"

# Rights on things.
EXISTS = "EXISTS"
READ = "READ"  # a datastore: that it is there, for reading
WRITE = "WRITE"  # a datastore: that it is there, for writing
ASSIGNED = "ASSIGNED"  # a managed identity

# Rights on the workspace.
_PROVIDER = "Microsoft.MachineLearningServices/workspaces"
JOBS_WRITE = f"{_PROVIDER}/jobs/write"
JOBS_READ = f"{_PROVIDER}/jobs/read"
JOBS_CANCEL = f"{_PROVIDER}/jobs/cancel/action"
CODE_WRITE = f"{_PROVIDER}/codes/versions/write"
ENVIRONMENT_WRITE = f"{_PROVIDER}/environments/versions/write"
MODEL_WRITE = f"{_PROVIDER}/models/versions/write"

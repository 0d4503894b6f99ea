"""The words in which rights are asked for: the kinds and rights of `platforms.base.Need` on Databricks.

Filled in by `translate` (pure), looked up by `Connection.preflight`. Names of Unity Catalog rights are those of its
GRANT statement (https://docs.databricks.com/data-governance/unity-catalog/manage-privileges/privileges.html); its API
writes an underscore for each blank. Permission levels are those of the Permissions API.
"""

# Kinds, with what `Need.name` then holds.
CATALOG = "catalog"  # main
SCHEMA = "schema"  # main.ml
MODEL = "model"  # main.ml.iris; need not be there yet, unless EXECUTE is asked for
MODEL_VERSION = "model-version"  # main.ml.iris/3
TABLE = "table"  # main.sales.orders; need not be there yet where WRITE is asked for
VOLUME = "volume"  # main.sales.raw
EXTERNAL_LOCATION = "external-location"  # a URI, for example s3://bucket/folder; its location has to be looked up
WORKSPACE_PATH = "workspace-path"  # /Workspace/Shared/churn: a folder or file of the workspace
VOLUME_PATH = "volume-path"  # /Volumes/main/sales/raw/churn: a folder or file that has to be there
WORKSPACE = "workspace"  # always THIS
CLUSTER = "cluster"  # id
POLICY = "cluster-policy"  # id
POOL = "instance-pool"  # id
BUDGET_POLICY = "budget-policy"  # id
NODE_TYPE = "node-type"  # i3.xlarge
SPARK_VERSION = "spark-version"  # 16.4.x-scala2.13
JOB = "job"  # id
JOB_NAME = "job-name"  # a name that just one job may have
SECRET = "secret"  # noqa: S105 - a kind; the name is SCOPE/KEY
SERVICE_PRINCIPAL = "service-principal"  # application id
USER = "user"  # user name
GROUP = "group"  # its name
ENDPOINT = "serving-endpoint"  # its name; need not be there yet

THIS = "this workspace"

# Rights of Unity Catalog, as GRANT words them.
USE_CATALOG = "USE CATALOG"
USE_SCHEMA = "USE SCHEMA"
READ_VOLUME = "READ VOLUME"
WRITE_VOLUME = "WRITE VOLUME"
READ_FILES = "READ FILES"
WRITE_FILES = "WRITE FILES"
SELECT = "SELECT"
EXECUTE = "EXECUTE"

# Rights that mean one thing or another, according to what is there; preflight finds out which.
REGISTER = "REGISTER"  # a model: CREATE MODEL on its schema if it is not there; else its owner or CREATE MODEL VERSION
SET_ALIAS = "SET ALIAS"  # a model: its owner, or MANAGE
SET_TAGS = "SET TAGS"  # a model's versions: its owner, MANAGE, or APPLY TAG with EXECUTE, to find them
WRITE = "WRITE"  # a table: MODIFY if it is there, else CREATE TABLE on its schema
EXISTS = "EXISTS"  # a machine type, a runtime: that the workspace offers it; a path, a person: that it is there
SIGNATURE = "SIGNATURE"  # MODEL_VERSION: that it says what goes in and comes out

# Permission levels. Each is met by a higher one of the same kind too.
CAN_READ = "CAN_READ"  # WORKSPACE_PATH
CAN_USE = "CAN_USE"  # POLICY
CAN_ATTACH_TO = "CAN_ATTACH_TO"  # POOL; CLUSTER, which takes CAN_RESTART if it does not run at the moment
CAN_MANAGE_RUN = "CAN_MANAGE_RUN"  # JOB, JOB_NAME
CAN_MANAGE = "CAN_MANAGE"  # ENDPOINT, if it is there
READ = "READ"  # SECRET: the scope's access list, and that the key is there

# Entitlements and roles.
ALLOW_CLUSTER_CREATE = "allow-cluster-create"  # WORKSPACE
PRINCIPAL_USER = "servicePrincipal.user"  # SERVICE_PRINCIPAL: the role that lets one run as it
WORKSPACE_ADMIN = "workspace admin"  # USER: only an admin may run as a user other than themselves
BUDGET_POLICY_USER = "budgetPolicy.user"  # BUDGET_POLICY

"""Names that Trainyard gives to things on Databricks: labels, folders, tags, environment variables. Pure."""

import hashlib
import importlib.resources
import re

from trainyard.core.errors import TranslationError

# MLflow takes any characters in a tag's key.
TAG_NAMESPACE = "trainyard.dev/namespace"
TAG_NAME = "trainyard.dev/name"
TAG_UID = "trainyard.dev/uid"
TAG_ATTEMPT = "trainyard.dev/attempt"
TAG_TOKEN = "trainyard.dev/submission-token"  # noqa: S105 - the name of a tag
TAG_CLUSTER = "trainyard.dev/cluster"
TAG_COMMIT = "trainyard.dev/commit"
TAG_REQUESTED_BY = "trainyard.dev/requested-by"
# Keys of Unity Catalog's tags, also those of model versions, may have none of these
# (https://docs.databricks.com/database-objects/tags.html, "Constraints").
NOT_IN_MODEL_TAG = frozenset(".,-=/:")

TASK_KEY = "train"
ENVIRONMENT_KEY = "trainyard"

MLFLOW_VARIABLES = frozenset({"MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_ID"})
REGISTRY_VARIABLE = "MLFLOW_REGISTRY_URI"
TASK_VARIABLE = "TRAINYARD_TASK"
# A folder of uploads is named by the code's digest alone, so that the launcher, which is put beside the code, needs a
# name that changes with its content.
LAUNCHER = importlib.resources.files(__package__).joinpath("launcher.py").read_bytes()
LAUNCHER_FILE = f"_trainyard_launcher_{hashlib.sha256(LAUNCHER).hexdigest()[:8]}.py"

# The cluster's digest and the code's.
_CODE_FOLDER = re.compile(r"[0-9a-f]{8}/[0-9a-f]{64}", re.ASCII)

# A cluster's tags become tags of cloud resources. This is what AWS and Azure both take (Azure refuses < > % & \ ? / in
# keys); Google's lower-casing is the platform's own doing.
_NOT_IN_CLUSTER_TAG = re.compile(r"[^A-Za-z0-9 _.:=+@-]")


def label(namespace: str, name: str, attempt: int, submission_token: str) -> str:
    """The run's name on the platform: readable, and unique to the attempt, so that listing finds a lost run."""
    digest = hashlib.sha256(submission_token.encode()).hexdigest()[:12]
    return f"{namespace}/{name} attempt {attempt} [{digest}]"


def home(principal: str) -> str:
    """The principal's home folder in the workspace."""
    return f"/Users/{principal}"


def code_folder(principal: str, cluster: str, digest: str) -> str:
    """Where these exact source files lie, whichever runs of that Kubernetes cluster use them.

    Only the cluster that made it can know whether it is still used, so that no two share one.
    """
    shared = hashlib.sha256(cluster.encode()).hexdigest()[:8]
    return f"{home(principal)}/.trainyard/code/{shared}/{digest.removeprefix('sha256:')}"


def is_code_folder(path: str, principal: str) -> bool:
    """Whether `code_folder` may have named that path for the principal: nothing else may ever be removed."""
    if "/" in principal or principal in ("", ".", ".."):
        return False
    below = path.removeprefix(f"{home(principal)}/.trainyard/code/")
    return below != path and _CODE_FOLDER.fullmatch(below) is not None


def model_tag(key: str) -> str:
    """One of our tags as a model version can carry it: trainyard.dev/uid becomes trainyard_uid."""
    return key.replace(".dev/", "_").replace("-", "_")


def cluster_tag(text: str) -> str:
    """A tag's key or value in the characters that clouds take: the rest becomes an underscore."""
    return _NOT_IN_CLUSTER_TAG.sub("_", text)


def cluster_tags(tags: dict[str, str]) -> dict[str, str]:
    """Tags for the machines of a job cluster.

    Raises:
        TranslationError: two keys become one.
    """
    named: dict[str, str] = {}
    for key, value in tags.items():
        plain = cluster_tag(key)
        if plain in named:
            raise TranslationError("spec.tags", f"{key!r} becomes {plain!r} on a cluster, which is already there")
        named[plain] = cluster_tag(value)
    return named

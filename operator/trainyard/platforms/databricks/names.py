"""Names that Trainyard gives to things on Databricks: labels, folders, tags, environment variables. Pure."""

import hashlib
import re

from trainyard.core.errors import TranslationError

# MLflow takes any characters in a tag's key.
TAG_NAMESPACE = "trainyard.dev/namespace"
TAG_NAME = "trainyard.dev/name"
TAG_UID = "trainyard.dev/uid"
TAG_ATTEMPT = "trainyard.dev/attempt"
TAG_TOKEN = "trainyard.dev/submission-token"  # noqa: S105 - the name of a tag
OUR_TAGS = "trainyard"

TASK_KEY = "train"
ENVIRONMENT_KEY = "trainyard"

MLFLOW_VARIABLES = frozenset({"MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_ID"})
OUR_VARIABLES = "TRAINYARD_"

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

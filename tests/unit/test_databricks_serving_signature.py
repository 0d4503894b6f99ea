"""What the MLflow run of a model version tells of its signature."""

import pytest

from trainyard.platforms.databricks.serving_checks import _signed

SIGNED = {"artifact_path": "model", "signature": {"inputs": "[]"}}
BARE = {"artifact_path": "bare", "signature": None}
SILENT = {"artifact_path": "model", "flavors": {}}  # as mlflow 2.22 writes it


@pytest.mark.parametrize(
    ("logged", "source", "told"),
    [
        ([SIGNED], "dbfs:/m/model", True),
        ([BARE], "dbfs:/m/bare", False),
        ([SIGNED, BARE], "dbfs:/m/bare", False),
        ([SIGNED, BARE], "dbfs:/m/model", True),
        ([SIGNED, BARE], "dbfs:/elsewhere", None),
        ([SILENT], "dbfs:/m/model", None),
        ([SILENT, SIGNED], "dbfs:/m/model", None),
        ([], "dbfs:/m/model", None),
    ],
)
def test_a_signature_is_missed_only_where_the_run_says_that_there_is_none(
    logged: list[dict[str, object]], source: str, told: bool | None
) -> None:
    assert _signed(logged, source) is told

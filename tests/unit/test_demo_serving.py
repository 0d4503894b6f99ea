"""What the demo counts of the callers of its endpoints."""

import pytest

from demo_serving import Served, Wines, accuracy, rows_of_table
from load import Asked

WINES = Wines(["alcohol", "hue"], [[13.0, 1.0], [12.0, 0.9], [14.0, 1.1], [12.5, 0.8]], [0, 1, 2, 1])


def served() -> Served:
    asked = [Asked(0.1, 0.01, 200, "forest-a"), Asked(0.2, 0.01, 200, "forest-b"), Asked(0.3, 0.01, 503, error="busy")]
    predicted = {"forest-a": [0, 1, 2, 1], "forest-b": [0.0, 1.0, 0.0, 0.0]}
    return Served("azureml", "wine", WINES, {"forest-a": "1", "forest-b": "2"}, predicted, asked)


def test_each_version_that_answered_has_its_requests_and_its_accuracy_and_failures_are_told() -> None:
    assert rows_of_table([served()]) == [
        ("azureml", "version 1", "1", "1.000"),
        ("azureml", "version 2", "1", "0.500"),
        ("azureml", "failed requests", "1", "503 busy"),
    ]


def test_the_log_speaks_of_versions() -> None:
    assert [each.by for each in served().told()] == ["version 1", "version 2", ""]


def test_predictions_must_be_as_many_as_the_wines() -> None:
    with pytest.raises(ValueError, match="longer"):
        accuracy([0, 1], WINES.kinds)


def test_the_held_out_wines_are_those_that_the_training_leaves_out() -> None:
    wines = Wines.held_out(7)
    assert len(wines.rows) == len(wines.kinds) == 54
    assert wines.rows != Wines.held_out(8).rows


@pytest.mark.parametrize("platform", ["databricks", "azureml"])
def test_a_request_has_every_row_as_the_platform_takes_it(platform: str) -> None:
    body = WINES.body(platform)
    if platform == "databricks":
        assert body["dataframe_records"][1] == {"alcohol": 12.0, "hue": 0.9}
    else:
        table = body["input_data"]
        assert (table["columns"], table["data"][1], table["index"]) == (["alcohol", "hue"], [12.0, 0.9], [0, 1, 2, 3])


def test_who_answered_is_read_where_each_platform_says_it() -> None:
    each = Served("databricks", "wine", WINES)
    assert each.answered_by({"served-model-name": "forest-a"}, {"predictions": [1]}) == "forest-a"
    assert each.predicted == {"forest-a": [1]}
    with pytest.raises(KeyError):
        each.answered_by({}, {"predictions": [1]})

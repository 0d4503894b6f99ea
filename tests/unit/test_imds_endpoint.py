"""Where the operator asks for the tokens of its machine: one plain endpoint, as the flag names it."""

import pytest

from trainyard.identity.imds import DEFAULT_ENDPOINT, checked_endpoint


@pytest.mark.parametrize(
    ("given", "asked"),
    [
        (DEFAULT_ENDPOINT, "http://169.254.169.254"),
        ("http://169.254.169.254/", "http://169.254.169.254"),
        ("http://127.0.0.1:40342", "http://127.0.0.1:40342"),
        ("http://[fd00:ec2::254]", "http://[fd00:ec2::254]"),
        ("http://Imds.Example", "http://imds.example"),
    ],
)
def test_an_endpoint_is_a_host_of_plain_http(given: str, asked: str) -> None:
    assert checked_endpoint(given) == asked


@pytest.mark.parametrize(
    "given",
    [
        "",
        "169.254.169.254",
        "https://169.254.169.254",
        "http://169.254.169.254/metadata",
        "http://169.254.169.254?x=1",
        "http://user@169.254.169.254",
        "http://169.254.169.254:0",
        "http://169.254.169.254:99999",
        "http://169.254.169.254 ",
        "http://169.254.169.254\n",
        "http://",
        "file:///etc/passwd",
    ],
)
def test_anything_else_is_told_at_the_start(given: str) -> None:
    with pytest.raises(ValueError, match="--imds-endpoint"):
        checked_endpoint(given)

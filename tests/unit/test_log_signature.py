"""AWS signatures, against the worked examples of Amazon's own documentation.

Amazon S3 API Reference, "Signature Calculations for the Authorization Header: Transferring Payload in a Single Chunk",
section "Examples: Signature Calculations".
"""

from datetime import UTC, datetime, timedelta

import pytest

from trainyard.keeping.signature import Credentials, quoted, signed

EXAMPLE = Credentials(
    "AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", "", datetime.max.replace(tzinfo=UTC)
)
NOW = datetime(2013, 5, 24, tzinfo=UTC)
HOST = "https://examplebucket.s3.amazonaws.com"
EXAMPLES = [
    (
        "GET",
        f"{HOST}/test.txt",
        {"Range": "bytes=0-9"},
        b"",
        "host;range;x-amz-content-sha256;x-amz-date",
        "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41",
    ),
    (
        "PUT",
        f"{HOST}/{quoted('test$file.text')}",
        {"Date": "Fri, 24 May 2013 00:00:00 GMT", "x-amz-storage-class": "REDUCED_REDUNDANCY"},
        b"Welcome to Amazon S3.",
        "date;host;x-amz-content-sha256;x-amz-date;x-amz-storage-class",
        "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd",
    ),
    (
        "GET",
        f"{HOST}/?lifecycle",
        {},
        b"",
        "host;x-amz-content-sha256;x-amz-date",
        "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543",
    ),
    (
        "GET",
        f"{HOST}/?max-keys=2&prefix=J",
        {},
        b"",
        "host;x-amz-content-sha256;x-amz-date",
        "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7",
    ),
]


@pytest.mark.parametrize(("method", "url", "headers", "body", "names", "signature"), EXAMPLES)
def test_the_documented_examples_are_signed_as_documented(
    method: str, url: str, headers: dict[str, str], body: bytes, names: str, signature: str
) -> None:
    sent = signed(EXAMPLE, "us-east-1", method, url, headers, body, NOW)
    assert sent["Authorization"] == (
        "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request,"
        f"SignedHeaders={names},Signature={signature}"
    )


def test_the_sessions_token_is_sent_and_signed() -> None:
    session = Credentials("ASIA", "secret", "a-token", NOW + timedelta(hours=1))
    sent = signed(session, "eu-west-1", "GET", f"{HOST}/a", {}, b"", NOW)
    assert sent["x-amz-security-token"] == "a-token"
    assert "x-amz-security-token" in sent["Authorization"]
    assert "secret" not in repr(session)
    assert "a-token" not in repr(session)

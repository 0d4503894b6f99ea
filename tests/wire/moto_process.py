"""Runs moto's server, in an environment of its own: boto3 and the Kubernetes client need different python-dateutil.

Started by `tests.wire.aws`. Prints its port, then serves: each line of standard input is a call of boto3,
`{"service", "method", "arguments"}`, whose outcome is answered in a line; the end of input ends it.

Arguments: files of the certificate and of its key.
"""

import json
import ssl
import sys
import threading
from typing import Any

import boto3
from moto.core.authorization import ActionAuthenticatorMixin
from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server


def let_web_identities_in() -> None:
    """AssumeRoleWithWebIdentity is never signed (STS API Reference); moto, when it checks signatures, wants one."""
    checked = ActionAuthenticatorMixin._authenticate_and_authorize_action

    def check(self: Any, *arguments: Any) -> None:
        if self._get_action() != "AssumeRoleWithWebIdentity":
            checked(self, *arguments)

    ActionAuthenticatorMixin._authenticate_and_authorize_action = check


def main() -> None:
    let_web_identities_in()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(sys.argv[1], sys.argv[2])
    application = DomainDispatcherApplication(create_backend_app)
    server = make_server("127.0.0.1", 0, application, threaded=True, ssl_context=context)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    say(server.port)
    for line in sys.stdin:
        say(outcome(server.port, json.loads(line)))
    server.shutdown()


def outcome(port: int, call: dict[str, Any]) -> Any:
    client = boto3.client(
        call["service"],
        endpoint_url=f"https://localhost:{port}",
        verify=False,  # of the test's own process
        region_name="eu-west-1",
        aws_access_key_id="admin",
        aws_secret_access_key="admin",
    )
    answer = getattr(client, call["method"])(**call["arguments"])
    if "Body" in answer:
        answer["Body"] = answer["Body"].read().decode()
    answer.pop("ResponseMetadata", None)
    return answer


def say(what: Any) -> None:
    print(json.dumps(what, default=str), flush=True)


main()

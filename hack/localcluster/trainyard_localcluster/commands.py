"""The command lines of etcd, kube-apiserver and kube-controller-manager, with the reason beside each flag.

Called by `cluster`. Pure: it starts nothing and writes nothing.
"""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

from trainyard_localcluster.pki import Pki
from trainyard_localcluster.programs import Programs

HOST = "127.0.0.1"
MAX_TOKEN_EXPIRATION = "24h"

# What the operator and its tests can notice. Workload controllers are left out: there is no node to run a pod.
CONTROLLERS = [
    "clusterrole-aggregation-controller",
    "garbage-collector-controller",
    "namespace-controller",
    "resourcequota-controller",
    "root-ca-certificate-publisher-controller",
    "serviceaccount-controller",
    "serviceaccount-token-controller",
    "validatingadmissionpolicy-status-controller",
]

AUDIT_POLICY: dict[str, Any] = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived"],
    "rules": [
        # Metadata, never bodies: a TokenRequest's answer is the token.
        {"level": "Metadata", "resources": [{"group": "", "resources": ["serviceaccounts/token"]}]},
        # Who has read a Secret is as much worth knowing as who has written one.
        {"level": "Metadata", "resources": [{"group": "", "resources": ["secrets"]}]},
        {"level": "Metadata", "verbs": ["create", "update", "patch", "delete", "deletecollection"]},
        {"level": "None"},
    ],
}


def encryption(key: bytes) -> dict[str, Any]:
    """The API server's configuration that has Secrets, and nothing else, encrypted in etcd; `key` is of 32 bytes.

    As a cluster should have it, and so that a search of etcd finds what leaked, not what was kept (Kubernetes
    documentation, "Encrypting Confidential Data at Rest").
    """
    providers = [{"secretbox": {"keys": [{"name": "only", "secret": base64.b64encode(key).decode()}]}}]
    return {
        "apiVersion": "apiserver.config.k8s.io/v1",
        "kind": "EncryptionConfiguration",
        "resources": [{"resources": ["secrets"], "providers": providers}],
    }


def etcd_command(programs: Programs, pki: Pki, data: Path, port: int) -> list[str]:
    url = f"https://{HOST}:{port}"
    peer = f"https://{HOST}:0"  # nobody joins: any port, and the same credentials as for clients
    return [
        str(programs.etcd),
        "--name=default",
        f"--data-dir={data}",
        f"--listen-client-urls={url}",
        f"--advertise-client-urls={url}",
        f"--listen-peer-urls={peer}",
        f"--initial-advertise-peer-urls={peer}",
        f"--initial-cluster=default={peer}",
        "--client-cert-auth",  # other users of this machine can reach loopback too
        f"--trusted-ca-file={pki.etcd_ca}",
        f"--cert-file={pki.etcd_server.cert}",
        f"--key-file={pki.etcd_server.key}",
        "--peer-client-cert-auth",
        f"--peer-trusted-ca-file={pki.etcd_ca}",
        f"--peer-cert-file={pki.etcd_server.cert}",
        f"--peer-key-file={pki.etcd_server.key}",
        "--unsafe-no-fsync",  # the data does not outlive the process
        "--log-level=warn",
    ]


def apiserver_command(
    programs: Programs, pki: Pki, etcd_url: str, port: int, encryption: Path, audit: tuple[Path, Path] | None
) -> list[str]:
    """`encryption` is its configuration file. `audit` is the policy file and the log file; None for no log."""
    issuer = f"https://{HOST}:{port}"
    command = [
        str(programs.apiserver),
        f"--bind-address={HOST}",
        f"--secure-port={port}",
        f"--advertise-address={HOST}",  # else it looks for a network interface, which a laptop offline lacks
        "--endpoint-reconciler-type=none",  # which refuses to publish a loopback address
        f"--tls-cert-file={pki.serving.cert}",
        f"--tls-private-key-file={pki.serving.key}",
        f"--client-ca-file={pki.ca}",
        "--authorization-mode=RBAC",
        f"--etcd-servers={etcd_url}",
        f"--etcd-cafile={pki.etcd_ca}",
        f"--etcd-certfile={pki.etcd_client.cert}",
        f"--etcd-keyfile={pki.etcd_client.key}",
        f"--encryption-provider-config={encryption}",
        f"--service-account-issuer={issuer}",
        f"--service-account-jwks-uri={issuer}/openid/v1/jwks",
        f"--service-account-signing-key-file={pki.service_account_key}",
        f"--service-account-key-file={pki.service_account_public}",
        f"--service-account-max-token-expiration={MAX_TOKEN_EXPIRATION}",
        "--service-account-extend-token-expiration=false",  # a token lives as long as it says
        "--service-cluster-ip-range=10.0.0.0/24",
        "--profiling=false",
    ]
    if audit is not None:
        policy, log = audit
        command += [f"--audit-policy-file={policy}", f"--audit-log-path={log}"]
    return command


def controller_manager_command(programs: Programs, pki: Pki, kubeconfig: Path) -> list[str]:
    return [
        str(programs.controller_manager),
        f"--kubeconfig={kubeconfig}",
        f"--controllers={','.join(CONTROLLERS)}",
        "--use-service-account-credentials=true",  # as elsewhere: each controller writes in its own name
        "--leader-elect=false",
        "--secure-port=0",  # one port less to find
        f"--root-ca-file={pki.ca}",
        f"--service-account-private-key-file={pki.service_account_key}",
        "--concurrent-gc-syncs=4",
        "--profiling=false",
    ]

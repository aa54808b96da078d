"""Who may speak to the sandbox's API server: tokens, a signing key, kubeconfig files.

The control plane's own programs authenticate with tokens from a file. The
operator and the agents do not: they get ServiceAccount tokens, as in a real
cluster, and with them only the rights that roles and admission policies leave
them. An agent's token is bound to a Pod on its node.
"""

import base64
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import yaml

# The order of the group of points of the curve P-256.
_P256_ORDER: Final = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551

_USERS: Final = {
    "admin": ("sandbox-admin", "system:masters"),
    # Its own role lacks what single controllers need; those would come as ServiceAccounts with a connection each.
    "kube-controller-manager": ("system:kube-controller-manager", "system:masters"),
    "kube-scheduler": ("system:kube-scheduler", ""),
    # These two play the kubelets and container runtimes of all nodes.
    "kwok": ("sandbox-kwok", "system:masters"),
    "nodesim": ("sandbox-nodesim", "system:masters"),
    "prometheus": ("sandbox-prometheus", ""),
}
"""User and group by the component that holds the token."""


def write_private(path: Path, content: str) -> None:
    """Write a file that only this user can read."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    path.touch(mode=0o600)
    path.write_text(content, encoding="utf-8")


def signing_key_pem() -> str:
    """A new P-256 private key in SEC 1 form, without the optional public half, which readers compute."""
    scalar = (secrets.randbelow(_P256_ORDER - 1) + 1).to_bytes(32, "big")
    version, curve = bytes.fromhex("020101"), bytes.fromhex("a00a06082a8648ce3d030107")
    body = version + b"\x04\x20" + scalar + curve
    encoded = base64.b64encode(b"\x30" + bytes([len(body)]) + body).decode()
    return f"-----BEGIN EC PRIVATE KEY-----\n{encoded[:64]}\n{encoded[64:]}\n-----END EC PRIVATE KEY-----\n"


def new_tokens() -> dict[str, str]:
    """A fresh secret for every static user, by component."""
    return {component: secrets.token_urlsafe(24) for component in _USERS}


def token_file(tokens: Mapping[str, str]) -> str:
    """The content of kube-apiserver's --token-auth-file."""
    return "".join(f"{token},{_USERS[c][0]},{_USERS[c][0]},{_USERS[c][1]}\n" for c, token in tokens.items())


def kubeconfig(*, server: str, certificate: bytes, user: str, token: str) -> str:
    """A kubeconfig file with everything inside it."""
    authority = base64.b64encode(certificate).decode()
    return yaml.safe_dump(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "sandbox", "cluster": {"server": server, "certificate-authority-data": authority}}],
            "users": [{"name": user, "user": {"token": token}}],
            "contexts": [{"name": "sandbox", "context": {"cluster": "sandbox", "user": user}}],
            "current-context": "sandbox",
        },
        sort_keys=False,
    )

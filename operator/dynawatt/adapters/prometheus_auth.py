"""How to be let in by a Prometheus: token, password, certificate authority, tenant.

Secrets come from files and are read again for every request, because tokens of
Kubernetes are renewed within the hour. No message repeats what is in them.
"""

import base64
import re
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from dynawatt.errors import InvalidInputError

_MOST_BYTES: Final = 64 * 1024
_HEADER: Final = re.compile(r"([A-Za-z0-9!#$%&'*+.^_`|~-]+):[ \t]*([\x21-\x7e]([\x20-\x7e]*[\x21-\x7e])?)?[ \t]*")
_VISIBLE: Final = re.compile(r"[\x21-\x7e]+")


@dataclass(frozen=True, slots=True)
class PrometheusAuth:
    """Credentials and trust; by default none, and certificates are verified.

    Raises InvalidInputError for what contradicts itself.
    """

    token_file: Path | None = None
    """Holds a bearer token."""
    username: str | None = None
    password_file: Path | None = None
    """Basic authentication takes both."""
    ca_file: Path | None = None
    """PEM certificates of the authorities to trust instead of the well-known ones."""
    insecure_skip_verify: bool = False
    """Talk to whoever answers. Says nothing about whether the connection is encrypted: it is."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """Sent with every request, such as ``X-Scope-OrgID`` for Mimir."""

    def __post_init__(self) -> None:
        """Refuse combinations of which one part would be ignored."""
        if (self.username is None) != (self.password_file is None):
            lonely = "--prometheus-username" if self.password_file is None else "--prometheus-password-file"
            raise InvalidInputError(f"{lonely}: must be given together with the other one of user name and password")
        if self.username is not None and (not self.username or ":" in self.username):
            raise InvalidInputError(f"--prometheus-username {self.username!r}: must be neither empty nor hold a colon")
        if self.token_file is not None and self.username is not None:
            raise InvalidInputError("--prometheus-token-file, --prometheus-username: give either a token or a password")
        if self.ca_file is not None and self.insecure_skip_verify:
            raise InvalidInputError(
                "--prometheus-ca-file, --prometheus-insecure-skip-verify: give one; the file is not used without "
                "verification"
            )

    def request_headers(self) -> dict[str, str]:
        """What goes with a request, from the files as they are now. Raises InvalidInputError."""
        headers = dict(self.headers)
        if self.token_file is not None:
            token = _secret("--prometheus-token-file", self.token_file).strip()
            if not _VISIBLE.fullmatch(token):
                raise InvalidInputError(f"--prometheus-token-file {self.token_file}: must hold one token and no more")
            headers["Authorization"] = f"Bearer {token}"
        if self.password_file is not None:
            password = _secret("--prometheus-password-file", self.password_file).rstrip("\r\n")
            pair = base64.b64encode(f"{self.username}:{password}".encode())
            headers["Authorization"] = f"Basic {pair.decode()}"
        return headers

    def trust(self) -> ssl.SSLContext | bool:
        """What aiohttp takes as ``ssl``. Raises InvalidInputError."""
        if self.ca_file is None:
            return not self.insecure_skip_verify
        try:
            return ssl.create_default_context(cafile=self.ca_file)
        except OSError as error:  # ssl.SSLError is one
            cause = "holds no PEM certificate" if isinstance(error, ssl.SSLError) else error.strerror
            raise InvalidInputError(
                f"--prometheus-ca-file {self.ca_file}: {cause}; must be a bundle of PEM certificates"
            ) from error

    def trust_version(self) -> tuple[int, ...]:
        """Another one once the file with the authorities was exchanged; empty when there is none."""
        if self.ca_file is None:
            return ()
        try:
            status = self.ca_file.stat()
        except OSError as error:
            raise InvalidInputError(
                f"--prometheus-ca-file {self.ca_file}: {error.strerror}; must be a bundle of PEM certificates"
            ) from error
        return status.st_ino, status.st_mtime_ns, status.st_size


def parse_headers(lines: Sequence[str]) -> dict[str, str]:
    """Headers given as ``Name: value``. Raises InvalidInputError."""
    headers: dict[str, str] = {}
    for line in lines:
        match = _HEADER.fullmatch(line)
        if match is None:
            raise InvalidInputError(f"--prometheus-header {line!r}: must look like X-Scope-OrgID: tenant")
        name, value = match[1], match[2] or ""
        if name.lower() == "authorization":
            raise InvalidInputError(
                "--prometheus-header Authorization: would show a secret to everyone who sees the command line; give "
                "--prometheus-token-file, or --prometheus-username and --prometheus-password-file"
            )
        headers[name] = value
    return headers


def _secret(option: str, file: Path) -> str:
    try:
        with file.open("rb") as stream:
            content = stream.read(_MOST_BYTES + 1)
        text = content.decode()
    except OSError as error:
        raise InvalidInputError(f"{option} {file}: {error.strerror}; must be a readable file") from error
    except UnicodeDecodeError as error:
        raise InvalidInputError(f"{option} {file}: must be text") from error
    if not text.strip() or len(content) > _MOST_BYTES:
        raise InvalidInputError(f"{option} {file}: must hold a secret of at most {_MOST_BYTES // 1024} KiB")
    return text

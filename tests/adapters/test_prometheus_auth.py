import base64
import json
import os
import shutil
import ssl
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from dynawatt.adapters.prometheus import Prometheus, open_prometheus
from dynawatt.adapters.prometheus_auth import PrometheusAuth, parse_headers
from dynawatt.errors import InvalidInputError
from dynawatt.ports import MetricsUnavailable, Sample

OPENSSL = shutil.which("openssl")
ANSWER = json.dumps({"status": "success", "data": {"result": [{"metric": {}, "value": [0, "1"]}]}}).encode()


def openssl(directory, *arguments):
    subprocess.run([OPENSSL, *map(str, arguments)], cwd=directory, check=True, capture_output=True, timeout=60)


def make_authority(directory, name):
    """A certificate authority of its own, and a certificate for localhost that it signed."""
    folder = directory / name
    folder.mkdir()
    (folder / "extensions").write_text("subjectAltName=DNS:localhost\nbasicConstraints=CA:FALSE\n")
    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    openssl(folder, "req", "-x509", *key, "-keyout", "ca.key", "-out", "ca.pem", "-subj", f"/CN={name}", "-days", 30)
    openssl(folder, "req", *key, "-keyout", "server.key", "-out", "server.csr", "-subj", "/CN=localhost")
    openssl(folder, "x509", "-req", "-in", "server.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial",
            "-out", "server.pem", "-days", 30, "-extfile", "extensions")  # fmt: skip
    return folder


class Front:
    """An HTTPS server in front of nothing, which writes down what it was asked with."""

    def __init__(self):
        front = self
        self.headers, self.location = [], None

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                self.rfile.read(int(self.headers["Content-Length"]))
                front.headers.append(dict(self.headers))
                self.send_response(302 if front.location else 200)
                if front.location:
                    self.send_header("Location", front.location)
                self.send_header("Content-Length", str(len(ANSWER)))
                self.end_headers()
                self.wfile.write(ANSWER)

            def log_message(self, *arguments):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_port

    def secured(self, folder):
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(folder / "server.pem", folder / "server.key")
        self._server.socket = self.context.wrap_socket(self._server.socket, server_side=True)
        return self

    def __enter__(self):
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_):
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture(scope="module")
def authorities(tmp_path_factory):
    if OPENSSL is None:
        pytest.skip("openssl makes the certificates")
    directory = tmp_path_factory.mktemp("authorities")
    return {name: make_authority(directory, name) for name in ("ours", "theirs")}


@pytest.fixture
def plain():
    with Front() as front:
        yield front


@pytest.fixture
def secure(authorities):
    with Front().secured(authorities["ours"]) as front:
        yield front


async def ask(url, auth=None):
    source = open_prometheus(url, auth)
    try:
        return await source.query("up")
    finally:
        await source.close()


def https(front):
    return f"https://localhost:{front.port}"


async def test_a_certificate_is_verified_by_default(secure):
    with pytest.raises(MetricsUnavailable, match=r"certificate of https://localhost.* not trusted: .*-ca-file"):
        await ask(https(secure))
    assert secure.headers == []


async def test_the_authority_in_the_file_is_trusted(secure, authorities):
    assert await ask(https(secure), PrometheusAuth(ca_file=authorities["ours"] / "ca.pem")) == [Sample({}, 1.0)]
    with pytest.raises(MetricsUnavailable, match="is not trusted"):
        await ask(https(secure), PrometheusAuth(ca_file=authorities["theirs"] / "ca.pem"))


async def test_a_certificate_for_another_name_is_refused(secure, authorities):
    with pytest.raises(MetricsUnavailable, match=r"is not trusted: IP address mismatch.*a name that the certificate"):
        await ask(f"https://127.0.0.1:{secure.port}", PrometheusAuth(ca_file=authorities["ours"] / "ca.pem"))


async def test_verification_can_be_given_up(secure):
    assert await ask(https(secure), PrometheusAuth(insecure_skip_verify=True)) == [Sample({}, 1.0)]


async def test_an_authority_that_was_exchanged_is_noticed(secure, authorities, tmp_path):
    bundle = tmp_path / "ca.pem"
    bundle.write_bytes((authorities["theirs"] / "ca.pem").read_bytes())
    source = Prometheus(https(secure), auth=PrometheusAuth(ca_file=bundle))
    with pytest.raises(MetricsUnavailable, match="is not trusted"):
        await source.query("up")
    fresh = tmp_path / "fresh"
    fresh.write_bytes((authorities["ours"] / "ca.pem").read_bytes())
    fresh.replace(bundle)
    assert await source.query("up") == [Sample({}, 1.0)]
    bundle.unlink()
    with pytest.raises(MetricsUnavailable, match=r"--prometheus-ca-file .*: No such file"):
        await source.query("up")
    await source.close()


async def test_a_token_is_read_anew(plain, tmp_path):
    file = tmp_path / "token"
    file.write_text("first\n")
    source = Prometheus(f"http://127.0.0.1:{plain.port}", auth=PrometheusAuth(token_file=file))
    await source.query("up")
    file.write_text("second\n")
    await source.query("up")
    assert [headers["Authorization"] for headers in plain.headers] == ["Bearer first", "Bearer second"]
    file.unlink()
    with pytest.raises(MetricsUnavailable, match=r"--prometheus-token-file .*/token: No such file or directory"):
        await source.query("up")
    assert len(plain.headers) == 2
    await source.close()


async def test_a_user_with_a_password(plain, tmp_path):
    file = tmp_path / "password"
    file.write_text("pass: wörd \n")
    await ask(f"http://127.0.0.1:{plain.port}", PrometheusAuth(username="ops", password_file=file))
    kind, pair = plain.headers[0]["Authorization"].split()
    assert (kind, base64.b64decode(pair).decode()) == ("Basic", "ops:pass: wörd ")


async def test_further_headers(plain):
    auth = PrometheusAuth(headers=parse_headers(["X-Scope-OrgID: a|b", "X-Empty:"]))
    await ask(f"http://127.0.0.1:{plain.port}", auth)
    assert (plain.headers[0]["X-Scope-OrgID"], plain.headers[0]["X-Empty"]) == ("a|b", "")
    assert "Authorization" not in plain.headers[0]


async def test_credentials_do_not_follow_a_redirect(plain, tmp_path):
    file = tmp_path / "token"
    file.write_text("hush")
    with Front() as other:
        plain.location = f"http://127.0.0.1:{other.port}/api/v1/query"
        with pytest.raises(MetricsUnavailable, match=f"HTTP 302 to http://127.0.0.1:{other.port}/api/v1/query"):
            await ask(f"http://127.0.0.1:{plain.port}", PrometheusAuth(token_file=file))
        assert other.headers == []


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "No such file or directory; must be a readable file"),
        (b"", "must hold a secret"),
        (b" \n", "must hold a secret"),
        (b"x" * 70_000, "at most 64 KiB"),
        (b"\xff\xfe", "must be text"),
        (b"hush hush", "must hold one token and no more"),
        (b"hush\nX-Evil: 1", "must hold one token and no more"),
    ],
)
def test_secrets_that_cannot_be_used(tmp_path, content, message):
    file = tmp_path / "token"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(InvalidInputError, match=message) as caught:
        open_prometheus("http://prometheus", PrometheusAuth(token_file=file))
    assert str(caught.value).startswith(f"--prometheus-token-file {file}: ")
    assert "hush" not in str(caught.value)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
def test_a_secret_that_may_not_be_read(tmp_path):
    file = tmp_path / "password"
    file.write_text("hush")
    file.chmod(0)
    with pytest.raises(InvalidInputError, match="Permission denied"):
        open_prometheus("http://prometheus", PrometheusAuth(username="ops", password_file=file))


@pytest.mark.parametrize("content", [None, b"", b"no certificate"])
def test_authorities_that_cannot_be_used(tmp_path, content):
    file = tmp_path / "ca.pem"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(InvalidInputError, match=r"--prometheus-ca-file .*must be a bundle of PEM certificates"):
        open_prometheus("https://prometheus", PrometheusAuth(ca_file=file))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"username": "ops"}, "--prometheus-username: must be given together"),
        ({"password_file": "p"}, "--prometheus-password-file: must be given together"),
        ({"username": "", "password_file": "p"}, "must be neither empty nor hold a colon"),
        ({"username": "a:b", "password_file": "p"}, "must be neither empty nor hold a colon"),
        ({"username": "a", "password_file": "p", "token_file": "t"}, "give either a token or a password"),
        ({"ca_file": "c", "insecure_skip_verify": True}, "not used without verification"),
    ],
)
def test_options_that_contradict_each_other(options, message):
    with pytest.raises(InvalidInputError, match=message):
        PrometheusAuth(**options)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("X-Scope-OrgID", "must look like X-Scope-OrgID: tenant"),
        (": value", "must look like"),
        ("X Y: value", "must look like"),
        ("X-Y: a\nb", "must look like"),
        ("authorization: Bearer hush", "would show a secret"),
    ],
)
def test_headers_that_cannot_be_sent(line, message):
    with pytest.raises(InvalidInputError, match=message):
        parse_headers([line])

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from typer.testing import CliRunner

from dynawatt.cli import main
from dynawatt.cli.load_view import progress_text
from dynawatt.errors import InvalidInputError, OperationError
from dynawatt.load.report import Attainment, LoadProgress, Percentiles

TRACE = "TIMESTAMP,ContextTokens,GeneratedTokens\n0,10,3\n0.1,10,3\n0.2,300,3\n"
EVENT = b'data: {"choices":[{"text":" t","finish_reason":null}]}\n\n'
LAST = b'data: {"choices":[{"text":" t","finish_reason":"length"}]}\n\ndata: [DONE]\n\n'


class Handler(BaseHTTPRequestHandler):
    slow = threading.Event()

    def do_GET(self) -> None:
        self.answer(b'{"data":[{"id":"tiny"}]}')

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if "missing" in self.path:
            self.send_error(404)
            return
        if self.slow.is_set():
            self.server.held.wait(20)  # type: ignore[attr-defined]
        self.answer(EVENT * (body["max_tokens"] - 1) + LAST)

    def answer(self, payload: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(payload)))
        self.end_headers()
        self.wfile.write(payload)

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def url() -> Iterator[str]:
    class Server(ThreadingHTTPServer):
        daemon_threads = True
        held = threading.Event()

        def handle_error(self, *args: object) -> None:
            pass  # clients that were stopped hang up

    server = Server(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.held.set()
    Handler.slow.clear()
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def trace(tmp_path):
    path = tmp_path / "trace.csv"
    path.write_text(TRACE)
    return path


def load(*arguments):
    words = ["load", *map(str, arguments)]
    result = CliRunner().invoke(main.build_app(words), words, standalone_mode=False)
    if result.exception:
        raise result.exception
    return result


def test_report_as_table_and_file(url, trace, tmp_path):
    target = tmp_path / "report.json"
    objectives = ("--ttft", "256:2000,3000", "--tbt-ms", "100")
    result = load(
        "--trace", trace, "--url", url, "--json", target, *objectives, "--rate-scale", 2, "--scale-mode", "compress"
    )
    assert "Requests   3 of 3 in 0." in result.stdout
    assert "100.00 % of requests within their objective" in result.stdout
    report = json.loads(target.read_text())
    assert (report["requests"], report["succeeded"], report["generated_tokens"]) == (3, 3, 9)
    assert report["attainment"] == {"ttft": 1.0, "tbt": 1.0}
    assert report["objectives"]["ttft"] == [{"max_input_tokens": 256, "s": 2.0}, {"max_input_tokens": None, "s": 3.0}]
    assert report["partial"] is False


def test_json_alone_on_standard_output(url):
    result = load(
        "--synthetic", "--peak-rps", 30, "--trough-rps", 30, "--duration-s", 1, "--url", url, "--json", "-", "--seed", 5
    )
    report = json.loads(result.stdout)
    assert report["succeeded"] == report["planned"] > 10
    assert "Requests" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--url", "http://127.0.0.1:1"], "what to send: give either --trace FILE or --synthetic"),
        (["--trace", "{trace}", "--synthetic", "--url", "http://127.0.0.1:1"], "what to send"),
        (["--trace", "{trace}"], "where to send: give either --url"),
        (["--trace", "{trace}", "--url", "http://127.0.0.1:1", "--service", "a/b"], "where to send"),
        (["--trace", "{trace}", "--url", "127.0.0.1:1"], "--url 127.0.0.1:1: must be like"),
        (["--trace", "{trace}", "--service", "llama"], "--service llama: must be NAMESPACE/NAME"),
        (
            ["--trace", "{trace}", "--url", "http://127.0.0.1:1", "--llmservice", "a/b", "--tbt-ms", "5"],
            "leave --ttft and",
        ),
        (
            ["--trace", "{trace}", "--url", "http://127.0.0.1:1", "--llmservice", "a"],
            "--llmservice a: must be NAMESPACE/NAME",
        ),
        (["--trace", "{trace}", "--url", "http://127.0.0.1:1", "--ttft", "5"], "--ttft and --tbt-ms together"),
        (["--trace", "{trace}", "--url", "http://127.0.0.1:1", "--ttft", "5", "--tbt-ms", "0"], "must be above 0"),
        (["--trace", "{trace}", "--url", "http://127.0.0.1:1", "--rate-scale", "0"], "rate scale 0.0"),
        (["--trace", "{trace}", "--url", "http://127.0.0.1:1", "--peak-rps", "5"], "belong to --synthetic"),
        (["--synthetic", "--url", "http://127.0.0.1:1", "--rate-scale", "-1"], "rate scale -1.0"),
        (["--synthetic", "--url", "http://127.0.0.1:1", "--duration-s", "0"], "duration 0.0 s"),
        (["--synthetic", "--url", "http://127.0.0.1:1", "--peak-rps", "1", "--trough-rps", "3"], "trough 3.0 and peak"),
        (
            ["--trace", "{trace}", "--url", "http://127.0.0.1:1", "--start-offset-s", "9"],
            "no request to send from 9.0 s on",
        ),
        (
            ["--trace", "{trace}", "--url", "http://127.0.0.1:1", "--json", "{trace}/no/x"],
            "cannot be written; give a file in",
        ),
        (["--trace", "{trace}.no", "--url", "http://127.0.0.1:1"], "No such file"),
        (["--trace", "{trace}", "--service", "a/b", "--kubeconfig", "{trace}.no"], "--kubeconfig .*trace.csv.no"),
    ],
)
def test_bad_input(trace, arguments, message):
    with pytest.raises(InvalidInputError, match=message):
        load(*(argument.format(trace=trace) for argument in arguments))


def test_server_that_is_not_there(trace):
    with pytest.raises(OperationError, match="is a vLLM server there"):
        load("--trace", trace, "--url", "http://127.0.0.1:1")


def test_servers_that_do_not_keep_up(url, trace):
    Handler.slow.set()
    with pytest.raises(OperationError, match="2 requests are outstanding"):
        load("--trace", trace, "--url", url, "--max-outstanding", 2)


def test_rate_scale_multiplies_the_synthetic_rates(url):
    options = ("--synthetic", "--peak-rps", 20, "--trough-rps", 20, "--duration-s", 1, "--url", url, "--json", "-")
    planned = [json.loads(load(*options, "--rate-scale", scale).stdout)["planned"] for scale in (1, 4)]
    assert planned == pytest.approx([20, 80], rel=0.5)


def test_failures_are_shown_and_end_with_0(url, trace):
    result = load("--trace", trace, "--url", f"{url}/missing", "--model", "m", "--json", "-")
    report = json.loads(result.stdout)
    assert report["failed_by_reason"] == {"HTTP 404": 3}
    assert report["failed"] == report["requests"] == 3
    assert "3 failed" in result.stderr
    assert "3 x HTTP 404" in result.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_ends_with_a_partial_report(url, trace, number):
    Handler.slow.set()
    trace.write_text(TRACE + "60,10,3\n")
    command = [sys.executable, "-m", "dynawatt", "load", "--trace", str(trace), "--url", url, "--json", "-"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        assert "3/4 sent" in process.stderr.readline()
        os.kill(process.pid, number)
        output, errors = process.communicate(timeout=15)
    report = json.loads(output)
    assert process.returncode == 130
    assert (report["partial"], report["stopped"], report["unfinished"]) == (True, "interrupted", 3)
    assert "PARTIAL" in errors
    assert "Traceback" not in errors


def test_progress_line():
    progress = LoadProgress(
        elapsed_s=61.2,
        planned=900,
        sent=130,
        outstanding=12,
        succeeded=117,
        failed=1,
        retried=2,
        attainment=Attainment(0.99, 1.0),
        recent_rps=2.34,
        recent_tokens_per_s=400,
        recent_attainment=Attainment(1.0, 1.0),
        recent_ttft_s=Percentiles(0.1, 0.2, 0.3124),
        recent_tbt_s=Percentiles(None, None, None),
    )
    assert progress_text(progress) == (
        "61 s | 2.3 requests/s | 130/900 sent | 12 outstanding | 117 done | 1 failed | "
        "p99 of the last 10 s: TTFT 312 ms, TBT -"
    )

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from dynawatt.adapters import pod_scraper
from dynawatt.adapters.pod_scraper import PodScraper
from dynawatt.ports import PodKey, Scrape, ScrapeTarget

from .test_vllm_page import READING, lines, page

PAGE = page(lines())
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n"
OK = HEAD + b"Content-Length: %d\r\n\r\n" % len(PAGE) + PAGE
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n" % (len(PAGE), PAGE)
UNTIL_CLOSED = HEAD + b"Connection: close\r\n\r\n" + PAGE
TIMEOUT_S = 0.3

Behaviour = Callable[[socket.socket], object]


class Pod:
    """A server on a loopback address that does with each request what it is told to; counts its connections."""

    def __init__(self, behave: Behaviour) -> None:
        self.behave = behave
        self.connections = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._open: list[socket.socket] = []
        threading.Thread(target=self._serve, daemon=True).start()

    @property
    def target(self) -> ScrapeTarget:
        return ScrapeTarget("127.0.0.1", self.port, 0.1, 0.25)

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection = self._listener.accept()[0]
                self.connections += 1
                self._open.append(connection)
                threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    def _answer(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while request := connection.recv(65536):
                assert request.startswith(b"GET /metrics HTTP/1.1\r\n")
                self.behave(connection)

    def hang_up(self) -> None:
        for connection in self._open:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            connection.close()
        self._open.clear()

    def close(self) -> None:
        self._listener.close()
        self.hang_up()


def answer(text: bytes) -> Behaviour:
    return lambda connection: connection.sendall(text)


def answer_and_close(text: bytes) -> Behaviour:
    def behave(connection: socket.socket) -> None:
        connection.sendall(text)
        connection.shutdown(socket.SHUT_RDWR)

    return behave


def drip(head: bytes) -> Behaviour:
    def behave(connection: socket.socket) -> None:
        for byte in head + 10_000 * b"#":
            connection.sendall(bytes([byte]))
            time.sleep(0.02)

    return behave


def flood(head: bytes) -> Behaviour:
    def behave(connection: socket.socket) -> None:
        connection.sendall(head)
        for _ in range(10 * 2**20 // 65536):
            connection.sendall(65536 * b"#")

    return behave


@pytest.fixture
def start() -> Iterator[Callable[[Behaviour], Pod]]:
    pods: list[Pod] = []

    def make(behave: Behaviour) -> Pod:
        pods.append(Pod(behave))
        return pods[-1]

    yield make
    for pod in pods:
        pod.close()


@pytest.fixture
def scraper() -> Iterator[PodScraper]:
    scraper = PodScraper(timeout_s=TIMEOUT_S)
    yield scraper
    scraper.close()


A = PodKey("prod", "a")


def read(scraper: PodScraper, pod: Pod) -> Scrape:
    return scraper.read({A: pod.target})[A]


@pytest.mark.parametrize("behave", [answer(OK), answer(CHUNKED), answer_and_close(UNTIL_CLOSED)])
def test_pages_in_every_framing(scraper: PodScraper, start: Callable[[Behaviour], Pod], behave: Behaviour) -> None:
    pod = start(behave)
    before_s = time.monotonic()
    for _ in range(3):
        scrape = read(scraper, pod)
        assert (scrape.reading, scrape.problem) == (READING, "")
        assert before_s < scrape.now_s <= time.monotonic()


def test_one_connection_is_kept_and_replaced_when_the_server_closes_it(
    scraper: PodScraper, start: Callable[[Behaviour], Pod]
) -> None:
    pod = start(answer(OK))
    for _ in range(3):
        assert read(scraper, pod).reading == READING
    assert pod.connections == 1
    pod.hang_up()
    assert read(scraper, pod).reading == READING
    assert pod.connections == 2


@pytest.mark.parametrize(
    ("behave", "problem"),
    [
        (answer(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n"), "HTTP 503"),
        (answer(b"HTTP/1.1 302 Found\r\nLocation: /\r\nContent-Length: 0\r\n\r\n"), "HTTP 302"),
        (answer(b"SSH-2.0-OpenSSH\r\n\r\n"), "BadStatusLine"),
        (answer_and_close(b""), "closed connection without response"),
        (answer_and_close(OK[:-100]), "the answer was cut short"),
        (answer_and_close(CHUNKED[:-100]), "IncompleteRead"),
        (flood(HEAD + b"Content-Length: 10485760\r\n\r\n"), "more than 2 MiB"),
        (flood(HEAD + b"Connection: close\r\n\r\n"), "more than 2 MiB"),
        (flood(HEAD + b"X-Long: "), "LineTooLong"),
        (answer(HEAD + b"Content-Length: 2\r\n\r\n#\n"), "the page does not tell running, waiting, kv_usage"),
    ],
)
def test_what_cannot_be_used_says_why_and_is_tried_again(
    scraper: PodScraper, start: Callable[[Behaviour], Pod], behave: Behaviour, problem: str
) -> None:
    pod = start(behave)
    scrape = read(scraper, pod)
    assert problem in scrape.problem
    assert scrape.reading is None or not scrape.reading.is_known
    pod.behave = answer(OK)
    assert read(scraper, pod).reading == READING


@pytest.mark.parametrize(
    "behave",
    [
        lambda connection: None,
        drip(b""),
        drip(HEAD + b"Content-Length: 9999\r\n\r\n"),
        drip(HEAD + b"Connection: close\r\n\r\n"),
    ],
)
def test_who_hangs_or_drips_costs_its_own_reading_only(
    scraper: PodScraper, start: Callable[[Behaviour], Pod], behave: Behaviour
) -> None:
    slow, quick = start(behave), start(answer(OK))
    other = PodKey("prod", "b")
    for _ in range(3):
        found = scraper.read({A: slow.target, other: quick.target})
        assert found[other].reading == READING
        assert found[A].reading is None
        assert found[A].problem in {"no answer within 0.3 s", "timed out"}
    slow.behave = answer(OK)
    deadline_s = time.monotonic() + 10.0
    while read(scraper, slow).reading is None:
        assert time.monotonic() < deadline_s


def test_more_hanging_pods_than_threads_are_still_bounded(
    scraper: PodScraper, start: Callable[[Behaviour], Pod]
) -> None:
    pod = start(lambda connection: None)
    targets = {PodKey("prod", str(index)): pod.target for index in range(pod_scraper._THREADS + 4)}
    for _ in range(2):
        found = scraper.read(targets)
        assert [scrape.reading for scrape in found.values()] == [None] * len(targets)
    pod.behave = answer(OK)
    few = dict(list(targets.items())[-4:])
    deadline_s = time.monotonic() + 10.0
    while not all(scrape.reading == READING for scrape in scraper.read(few).values()):
        assert time.monotonic() < deadline_s


def test_nobody_listens(scraper: PodScraper) -> None:
    with socket.create_server(("127.0.0.1", 0)) as freed:
        target = ScrapeTarget("127.0.0.1", freed.getsockname()[1], 0.1, None)
    assert scraper.read({A: target})[A].problem == "Connection refused"


def test_a_pod_that_moved_is_read_at_its_new_address(scraper: PodScraper, start: Callable[[Behaviour], Pod]) -> None:
    old, new = start(answer(OK)), start(answer(OK))
    read(scraper, old)
    assert read(scraper, new).reading == READING
    assert (old.connections, new.connections) == (1, 1)


def test_no_pods(scraper: PodScraper) -> None:
    assert scraper.read({}) == {}

import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest

from dynawatt.adapters.nvml.bounding import BoundedThread
from dynawatt.ports import GpuError, GpuTimeoutError

LONG_S = 60.0
SHORT_S = 0.05


@pytest.fixture
def thread():
    thread = BoundedThread("gpu-0")
    yield thread
    thread.close()


class Hanging:
    """A call that stays in the driver until it is let go."""

    def __init__(self, thread):
        self.thread = thread
        self.in_driver = threading.Event()
        self.release = threading.Event()
        self.ended = threading.Event()
        self.steps = []

    def __call__(self):
        self.thread.step("GPU-0: first")
        self.steps.append("first")
        self.in_driver.set()
        self.release.wait()
        try:
            self.thread.step("GPU-0: second")
            self.steps.append("second")
        finally:
            self.ended.set()


@pytest.fixture
def hanging(thread):
    hanging = Hanging(thread)
    yield hanging
    hanging.release.set()


def test_a_result_comes_back(thread):
    assert thread.run(lambda: 42, within_s=LONG_S) == 42


def test_what_a_call_raises_comes_back(thread):
    with pytest.raises(ZeroDivisionError):
        thread.run(lambda: 1 / 0, within_s=LONG_S)
    assert thread.run(lambda: 42, within_s=LONG_S) == 42


def test_a_late_call_is_given_up_and_named(thread, hanging):
    with pytest.raises(GpuTimeoutError, match=r"^GPU-0: first has not returned yet; given up after 0\.05 s$"):
        thread.run(hanging, within_s=SHORT_S)


def test_while_one_hangs_further_calls_fail_at_once_and_are_never_made(thread, hanging):
    with pytest.raises(GpuTimeoutError):
        thread.run(hanging, within_s=SHORT_S)
    assert thread.hangs
    made = []
    with pytest.raises(GpuTimeoutError, match=r"^GPU-0: first has not returned"):
        thread.run(lambda: made.append(1), within_s=1e6)  # would wait for days
    hanging.release.set()
    hanging.ended.wait()
    while thread.hangs:
        time.sleep(0.001)
    assert thread.run(lambda: 42, within_s=LONG_S) == 42
    assert made == []


@pytest.mark.parametrize(
    ("hangs_s", "told"), [(0.5, "yet"), (2.9, "1 s"), (3, "3 s"), (30, "10 s"), (59, "10 s"), (9000, "3600 s")]
)
def test_a_message_says_in_steps_for_how_long_it_hangs(hangs_s, told):
    now_s = [100.0]
    thread = BoundedThread("gpu-0", clock_s=lambda: now_s[0])
    hanging = Hanging(thread)
    with pytest.raises(GpuTimeoutError):
        thread.run(hanging, within_s=SHORT_S)
    now_s[0] += hangs_s
    with pytest.raises(GpuTimeoutError, match=f"^GPU-0: first has not returned (for more than )?{told}$"):
        thread.run(lambda: None, within_s=LONG_S)
    hanging.release.set()
    thread.close()


def test_a_call_given_up_in_the_queue_is_never_made(thread, hanging):
    made = []
    with ThreadPoolExecutor() as pool:
        first = pool.submit(thread.run, hanging, within_s=LONG_S)
        hanging.in_driver.wait()
        with pytest.raises(GpuTimeoutError, match=r"^GPU-0: first has not returned"):
            thread.run(lambda: made.append("stale lock"), within_s=SHORT_S)
        hanging.release.set()
        first.result()
    assert thread.run(lambda: 42, within_s=LONG_S) == 42
    assert made == []
    assert hanging.steps == ["first", "second"]


def test_a_call_given_up_between_its_steps_ends_before_the_next(thread, hanging):
    with pytest.raises(GpuTimeoutError):
        thread.run(hanging, within_s=SHORT_S)
    hanging.release.set()
    hanging.ended.wait()
    assert hanging.steps == ["first"]


def test_a_caller_that_is_interrupted_leaves_nothing_behind(thread, hanging):
    made = []
    with ThreadPoolExecutor() as pool:
        first = pool.submit(thread.run, hanging, within_s=LONG_S)
        hanging.in_driver.wait()
        before = signal.signal(signal.SIGALRM, signal.default_int_handler)
        signal.setitimer(signal.ITIMER_REAL, SHORT_S)
        try:
            with pytest.raises(KeyboardInterrupt):
                thread.run(lambda: made.append("stale lock"), within_s=LONG_S)
        finally:
            signal.signal(signal.SIGALRM, before)
        hanging.release.set()
        first.result()
    assert thread.run(lambda: 42, within_s=LONG_S) == 42
    assert made == []


def test_callers_of_many_threads_get_their_own_results_one_at_a_time(thread):
    inside = []

    def square(number):
        inside.append(number)
        assert len(inside) == 1
        inside.remove(number)
        return number**2

    with ThreadPoolExecutor(8) as pool:
        calls = [pool.submit(thread.run, partial(square, number), within_s=LONG_S) for number in range(500)]
        assert [call.result() for call in calls] == [number**2 for number in range(500)]


def test_one_that_hangs_does_not_hold_up_another(thread, hanging):
    with pytest.raises(GpuTimeoutError):
        thread.run(hanging, within_s=SHORT_S)
    other = BoundedThread("gpu-1")
    assert other.run(lambda: 42, within_s=LONG_S) == 42
    other.close()


def test_a_closed_one_takes_no_more_calls(thread):
    thread.close()
    thread.close()
    with pytest.raises(GpuError, match="gpu-0 was closed"):
        thread.run(lambda: 42, within_s=LONG_S)


def test_a_call_that_never_returns_keeps_no_process_from_ending():
    code = """
import time
from dynawatt.adapters.nvml.bounding import BoundedThread
try:
    BoundedThread("gpu-0").run(lambda: time.sleep(3600), within_s=0.01)
except Exception as error:
    print(type(error).__name__)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "GpuTimeoutError\n"

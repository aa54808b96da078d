import json
import os
import subprocess
import sys
import threading
import time

import pytest

from dynawatt.perfmodel.gpus import H100_SXM
from dynawatt.sandbox.driver.build import ensure_driver
from dynawatt.sandbox.driver.control import SimulatedDriver
from dynawatt.sandbox.driver.models import GpuModel

# The real pynvml in a process of its own: LD_LIBRARY_PATH counts only when a process starts, and the library must not
# stay in the process of the tests. Calls are lines of JSON; "@0" stands for the handle of GPU 0.
CLIENT = """
import json, sys, threading
import pynvml

handles, sets, writing = {}, [], threading.Lock()

def argument(value):
    if value == "@set":
        return sets[-1]
    if isinstance(value, str) and value.startswith("@"):
        if value not in handles:
            handles[value] = pynvml.nvmlDeviceGetHandleByIndex(int(value[1:]))
        return handles[value]
    return value

def call(key, function, arguments):
    try:
        value = getattr(pynvml, function)(*map(argument, arguments))
    except pynvml.NVMLError as error:
        answer = {"error": type(error).__name__, "code": getattr(error, "value", None)}
    else:
        if function == "nvmlEventSetCreate":
            sets.append(value)
        if isinstance(value, pynvml.c_nvmlEventData_t):
            value = [value.eventType, value.eventData, value.gpuInstanceId]
        if isinstance(value, pynvml.c_nvmlDevice_t):
            value = pynvml.nvmlDeviceGetUUID(value)
        answer = {"value": value if isinstance(value, (int, str, list, tuple)) else None}
    with writing:
        print(json.dumps([key, answer]), flush=True)

for line in sys.stdin:
    threading.Thread(target=call, args=json.loads(line), daemon=True).start()
"""


class NvmlError(Exception):
    pass


class Client:
    """Calls pynvml functions by name; each runs on a thread of its own in the other process."""

    def __init__(self, environment):
        self.process = subprocess.Popen(
            [sys.executable, "-c", CLIENT],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | environment,
        )
        self._answers = {}
        self._arrived = threading.Condition()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()
        self._key = 0

    def _read(self):
        for line in self.process.stdout:
            if not line.endswith("\n"):
                return  # killed while it wrote
            with self._arrived:
                key, answer = json.loads(line)
                self._answers[key] = answer
                self._arrived.notify_all()

    def begin(self, function, *arguments):
        self._key += 1
        print(json.dumps([self._key, function, arguments]), file=self.process.stdin, flush=True)
        return self._key

    def has_ended(self, key):
        with self._arrived:
            return key in self._answers

    def end(self, key):
        with self._arrived:
            assert self._arrived.wait_for(lambda: key in self._answers, timeout=20)
            answer = self._answers.pop(key)
        if "error" in answer:
            raise NvmlError(answer["error"])
        return answer["value"]

    def __getattr__(self, function):
        return lambda *arguments: self.end(self.begin(function, *arguments))

    def kill(self):
        self.process.kill()
        self.process.wait()
        self._reader.join()
        for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
            pipe.close()


@pytest.fixture(scope="session")
def library():
    return ensure_driver()


@pytest.fixture
def driver(tmp_path):
    gpus = [GpuModel.of(H100_SXM, f"GPU-{index}") for index in range(3)]
    made = SimulatedDriver.create(tmp_path / "node.gpus", gpus)
    yield made
    made.restore()
    made.close()


@pytest.fixture
def connect(driver, library):
    clients = []

    def start(*, folder=library, init=True, **variables):
        client = Client({**driver.environment(folder), **variables})
        clients.append(client)
        if init:
            client.nvmlInit()
        return client

    yield start
    driver.restore()
    for client in clients:
        client.kill()


@pytest.fixture
def client(connect):
    return connect()


def eventually(condition, timeout_s=10.0):
    until_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < until_s
        time.sleep(0.005)

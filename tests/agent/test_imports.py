import subprocess
import sys

HEAVY = ("numpy", "numba", "scipy", "pandas", "aiohttp", "kopf")
PROGRAM = f"""
import importlib, pkgutil, sys
import dynawatt.agent
from dynawatt.cli.main import build_app
for module in pkgutil.iter_modules(dynawatt.agent.__path__, "dynawatt.agent."):
    importlib.import_module(module.name)
build_app(["agent"])
assert "dynawatt.agent.process" in sys.modules and "dynawatt.cli.agent" in sys.modules
print(*[name for name in {HEAVY!r} if name in sys.modules])
"""


def test_the_agent_loads_nothing_heavy() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, "", "")

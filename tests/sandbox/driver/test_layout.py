import ctypes
import json
import subprocess
import sys

from dynawatt.sandbox.driver import layout

# In a process of its own: the library's name would otherwise stand for the real one in the process of the tests.
PRINT_LAYOUT = """
import ctypes, itertools, json, sys

class Entry(ctypes.Structure):
    _fields_ = (("name", ctypes.c_char_p), ("value", ctypes.c_size_t))

table = (Entry * 1000).in_dll(ctypes.CDLL(sys.argv[1]), "dynawatt_layout")
named = itertools.takewhile(lambda entry: entry.name, table)
print(json.dumps({entry.name.decode(): entry.value for entry in named}))
"""


def test_python_and_c_see_the_same_structures(library):
    path = str(library / "libnvidia-ml.so.1")
    done = subprocess.run([sys.executable, "-c", PRINT_LAYOUT, path], capture_output=True, text=True, check=True)
    mirror = {f"function {name}": index for index, name in enumerate(layout.FUNCTIONS)}
    for structure in (layout.Fault, layout.Slot, layout.Motion, layout.Gpu, layout.State):
        name = structure.__name__.lower()
        mirror[f"sizeof {name}"] = ctypes.sizeof(structure)
        mirror |= {f"{name}.{field}": getattr(structure, field).offset for field, _type in structure._fields_}
    assert json.loads(done.stdout) == mirror

"""Runs ``dynawatt`` and counts where its threads are, for whoever wants to know what it spends its time with.

Writes stacks, innermost last, to the file that DYNAWATT_SAMPLES names, every few seconds. Threads that wait are there,
too, so look at the thread you mean; and calls that let go of the interpreter's lock are seen more often than others.
"""

import collections
import os
import sys
import threading
import time
from pathlib import Path

from dynawatt.cli.main import main

_EVERY_S = 0.01
_WRITE_S = 10.0


def _sample(out: Path) -> None:
    found: collections.Counter[str] = collections.Counter()
    own, written_s = threading.get_ident(), time.monotonic()
    while True:
        time.sleep(_EVERY_S)
        names = {thread.ident: thread.name for thread in threading.enumerate()}
        for ident, innermost in sys._current_frames().items():
            if ident == own:
                continue
            stack, frame = [], innermost
            while frame is not None:
                stack.append(f"{Path(frame.f_code.co_filename).stem}:{frame.f_code.co_name}:{frame.f_lineno}")
                frame = frame.f_back
            name = names.get(ident, "?").split("_")[0]
            found[";".join([name, *reversed(stack)])] += 1
        if time.monotonic() - written_s > _WRITE_S:
            written_s = time.monotonic()
            out.write_text("".join(f"{stack} {count}\n" for stack, count in found.most_common()))


if __name__ == "__main__":  # worker processes import this, too
    threading.Thread(target=_sample, args=(Path(os.environ["DYNAWATT_SAMPLES"]),), daemon=True).start()
    main()

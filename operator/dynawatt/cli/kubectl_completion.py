"""``kubectl_complete-dynawatt``, which kubectl asks what could follow `kubectl dynawatt ...`.

It is given the words of the line, of which the last is the one being typed. It answers with one candidate on each line,
with its description behind a tab, and last with what the shell shall do besides (`kubectl plugin --help`, and cobra's
ShellCompDirective). Typer answers the shell fish in the same form.
"""

import os
import shlex
import sys
from contextlib import redirect_stdout, suppress
from io import StringIO
from typing import Final

from dynawatt.cli.main import COMPLETE
from dynawatt.cli.main import main as dynawatt

_OFFER_FILES: Final = ":0"
_OFFER_NO_FILES: Final = ":4"


def main() -> None:
    """Entry point: print what could be the last argument; where nothing is known, let the shell offer files."""
    os.environ[COMPLETE] = "complete_fish"
    os.environ["_TYPER_COMPLETE_FISH_ACTION"] = "get-args"
    os.environ["_TYPER_COMPLETE_ARGS"] = shlex.join(["dynawatt", *sys.argv[1:]])
    answer = StringIO()
    with redirect_stdout(answer), suppress(SystemExit):
        dynawatt()
    candidates = answer.getvalue().strip()
    print(f"{candidates}\n{_OFFER_NO_FILES}" if candidates else _OFFER_FILES)

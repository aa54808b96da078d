"""Every command of ``dynawatt`` with its options, as typer knows them."""

from functools import cache
from itertools import chain

import typer

from dynawatt.cli.main import COMMANDS, build_app


@cache
def command(*words):
    """The command that these words name, or None."""
    found = typer.main.get_command(build_app(words))
    for word in words:
        found = getattr(found, "commands", {}).get(word)
    return found


def options(found):
    return set(chain.from_iterable((*one.opts, *one.secondary_opts) for one in found.params)) | {"--help"}


@cache
def all_options():
    """Of all commands together."""
    roots = [command(name) for name in chain.from_iterable(COMMANDS.values())]
    below = [one for root in roots for one in getattr(root, "commands", {}).values()]
    return set(chain.from_iterable(map(options, (*roots, *below))))


def problem_of(line):
    """What is wrong with a command line that begins with ``dynawatt``; None where nothing is."""
    words = line.split()[1:]
    path = []
    while words and command(*path, words[0]) is not None:
        path.append(words.pop(0))
    found = command(*path)
    if words[:1] == ["COMMAND"]:  # any of them
        return None
    if getattr(found, "commands", None) and words and not words[0].startswith("-"):
        return f"no command {words[0]!r} in dynawatt {' '.join(path)}".rstrip()
    for word in words:
        if word == "--":  # the rest is for kubectl or helm
            return None
        if word.startswith("--") and word.partition("=")[0] not in options(found):
            return f"no option {word}"
    return None

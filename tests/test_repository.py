import re
import statistics
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TOP_LEVEL = {"operator", "charts", "crds", "tests", "dashboards", "examples", "docs", ".ci"}
# Written in pieces, so that this file does not find itself.
MACHINE_PATH = re.compile(r"(?<![\w.\-/])/(?:wo" + "rk|tm" + "p|ho" + r"me|ro" + r"ot|Us" + r"ers)/")
REGISTRIES = re.compile(
    "|".join(
        re.escape(name) + suffix
        for name, suffix in [
            ("py", r"pi\.org"),
            ("python", r"hosted\.org"),
            ("npm", r"js\.(org|com)"),
            ("pro", r"xy\.golang\.org"),
            ("su", r"m\.golang\.org"),
            ("cra", r"tes\.io"),
            ("rubyg", r"ems\.org"),
            ("deb", r"\.debian\.org"),
        ]
    )
)


@pytest.fixture(scope="module")
def tracked():
    try:
        listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True, timeout=30)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("not a git checkout")
    paths = [Path(name) for name in listed.stdout.decode().split("\0") if name]
    return [path for path in paths if (ROOT / path).is_file() and not (ROOT / path).is_symlink()]


def texts(tracked):
    for path in tracked:
        content = (ROOT / path).read_bytes()
        if b"\0" not in content:
            yield path, content.decode()


def length(path):
    return len((ROOT / path).read_text().splitlines())


def test_the_source_root_is_no_package():
    assert (ROOT / "operator" / "dynawatt" / "__init__.py").exists()
    assert not (ROOT / "operator" / "__init__.py").exists()


def test_top_level_folders(tracked):
    assert {path.parts[0] for path in tracked if len(path.parts) > 1} <= TOP_LEVEL


def test_files_stay_readable(tracked):
    python = [path for path in tracked if path.suffix == ".py"]
    too_long = {str(path): length(path) for path in python if length(path) > 400}
    assert not too_long
    assert statistics.median(map(length, python)) < 160


@pytest.mark.parametrize("pattern", [MACHINE_PATH, REGISTRIES], ids=["machine path", "package registry"])
def test_nothing_is_tied_to_one_machine(tracked, pattern):
    found = [
        f"{path}:{number}: {line.strip()}"
        for path, text in texts(tracked)
        for number, line in enumerate(text.splitlines(), start=1)
        if pattern.search(line)
    ]
    assert not found


@pytest.mark.parametrize(
    ("text", "pattern"),
    [
        ("cd /wo" + "rk/main", MACHINE_PATH),
        ("open('/tm" + "p/x')", MACHINE_PATH),
        ("https://py" + "pi.org/simple", REGISTRIES),
        ("https://files.python" + "hosted.org/a", REGISTRIES),
    ],
)
def test_the_patterns_find_what_they_are_for(text, pattern):
    assert pattern.search(text)

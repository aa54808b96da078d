import shutil

import pytest

from dynawatt.errors import OperationError
from dynawatt.sandbox.driver import build
from dynawatt.sandbox.driver.build import Flavour, ensure_driver
from dynawatt.sandbox.paths import binaries_root


@pytest.fixture
def folders(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path


@pytest.fixture
def sources(folders, monkeypatch):
    copied = folders / "library"
    shutil.copytree(build._SOURCES, copied)
    monkeypatch.setattr(build, "_SOURCES", copied)
    return copied


def test_the_directory_has_nothing_but_the_library_and_is_built_once(folders, monkeypatch):
    folder = ensure_driver()
    assert [path.name for path in folder.iterdir()] == ["libnvidia-ml.so.1"]
    assert list(binaries_root().iterdir()) == [folder]
    monkeypatch.setenv("PATH", "")
    assert ensure_driver() == folder


def test_each_flavour_and_each_change_of_a_source_is_another_build(sources):
    keys = {build._key(flavour) for flavour in Flavour}
    assert len(keys) == 3
    for name in ("clocks.c", "state.h"):
        with (sources / name).open("a") as file:
            file.write("/* changed */\n")
        keys.add(build._key(Flavour.CURRENT))
    assert len(keys) == 5


def test_a_failed_build_shows_the_compilers_words_and_leaves_nothing(sources):
    (sources / "broken.c").write_text("int f(int unused) { return 0; }\n")
    with pytest.raises(OperationError, match=r"(?s)^building libnvidia-ml.so.1 failed .*broken\.c.*unused"):
        ensure_driver()
    assert not binaries_root().exists()


def test_zig_is_used_where_there_is_no_compiler(folders, monkeypatch):
    compiler = shutil.which("cc")
    zig = binaries_root() / "ziglang-0.17.1" / "ziglang" / "zig"
    zig.parent.mkdir(parents=True)
    zig.write_text(f'#!/bin/sh\necho "$1" > {folders}/first\nshift\nPATH=/usr/bin:/bin exec {compiler} "$@"\n')
    zig.chmod(0o755)
    monkeypatch.setenv("PATH", "/nowhere")
    assert (ensure_driver() / "libnvidia-ml.so.1").exists()
    assert (folders / "first").read_text() == "cc\n"


def test_without_compiler_and_package_index_it_says_what_to_do(folders, monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(OperationError, match=r"(?s)^a C compiler is missing .* install gcc and try again:.*ziglang"):
        ensure_driver()
    assert not binaries_root().exists()

import os
from dataclasses import replace
from pathlib import Path

import pytest

from dynawatt.adapters import surface_cache
from dynawatt.adapters.surface_cache import SurfaceCache, default_surface_dir
from dynawatt.perfmodel.surface import ClassLatency, Surface, SurfacePoint

CLASS = ClassLatency("ML", 812.0, 90_000.0, 0.991, 1 / 3, 0.1, 0.9, 0.02, 0.05, (0.98, 0.995), (0.3, 0.36))
ROW = (
    SurfacePoint(0.0, 1.0, 1.0, 0.0, 0.0, 624.0),
    SurfacePoint(0.1 + 0.2, 0.99, 0.97, 1e-9, 0.05, 2000.5, 0.2, 0.03, 900.0, (0.98, 0.999), (0.9, 1.0), (CLASS,)),
)
SURFACE = Surface(8, 70.0, 110.0, {1980: ROW, 900: ROW[:1]}, {2: {1980: ROW, 900: ROW}})


@pytest.fixture
def cache(tmp_path):
    return SurfaceCache(tmp_path / "made" / "on demand")


def files(cache):
    return sorted(cache._directory.iterdir())


def test_what_is_read_equals_what_was_written(cache):
    assert cache.load("a") is None
    cache.store("a", SURFACE)
    cache.store("b", replace(SURFACE, tensor_parallel=4))
    assert cache.load("a") == SURFACE
    assert cache.load("b").tensor_parallel == 4
    assert [path.name for path in files(cache)] == ["a.surface", "b.surface"]


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: b"",
        lambda content: content[: len(content) // 2],
        lambda content: content.replace(b"624.0", b"324.0"),
        lambda content: b"\xff" + content,
        lambda content: content.partition(b"\n")[2],
    ],
)
def test_a_damaged_file_is_as_good_as_absent_and_is_replaced(cache, damage):
    cache.store("a", SURFACE)
    path = files(cache)[0]
    path.write_bytes(damage(path.read_bytes()))
    assert cache.load("a") is None
    cache.store("a", SURFACE)
    assert cache.load("a") == SURFACE


def test_a_write_that_fails_leaves_the_old_file_and_no_other(cache, monkeypatch):
    cache.store("a", SURFACE)

    def no_space(file):
        raise OSError("no space left")

    monkeypatch.setattr(surface_cache.os, "fsync", no_space)
    with pytest.raises(OSError, match="no space"):
        cache.store("a", replace(SURFACE, tensor_parallel=1))
    assert cache.load("a") == SURFACE
    assert len(files(cache)) == 1


def test_the_ones_unused_for_longest_are_forgotten(cache, monkeypatch):
    monkeypatch.setattr(surface_cache, "_MOST_FILES", 2)
    for age_s, name in ((300, "old"), (200, "used")):
        cache.store(name, SURFACE)
        stamp = files(cache)[0].stat().st_mtime - age_s
        os.utime(cache._path(name), (stamp, stamp))
    cache.load("old")
    cache.store("new", SURFACE)
    assert [path.name for path in files(cache)] == ["new.surface", "old.surface"]


@pytest.mark.parametrize(("value", "parent"), [("/x", "/x"), ("", "/people/me/.cache"), ("y", "/people/me/.cache")])
def test_the_default_directory_follows_the_xdg_rules(monkeypatch, value, parent):
    monkeypatch.setenv("XDG_CACHE_HOME", value)
    monkeypatch.setenv("HOME", "/people/me")
    assert default_surface_dir() == Path(parent) / "dynawatt" / "surfaces"

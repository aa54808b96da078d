"""Builds the control plane's programs from pinned Go modules, once per user.

Each family of programs is a Go module of its own (in ``components/``), so that
their dependency versions never meet. What a build depends on is hashed into
the name of its directory in the user's cache: a directory of that name is
complete, because it appears by a rename, and is used without asking go.
"""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from dynawatt.errors import OperationError
from dynawatt.sandbox.locking import locked_directory
from dynawatt.sandbox.paths import binaries_root
from dynawatt.sandbox.progress import Progress, Silent
from dynawatt.sandbox.toolchain import build_environment, find_go, go_architecture

_SOURCES: Final = Path(__file__).parent / "components"
_KUBERNETES_STAMP: Final = " ".join(
    f"-X k8s.io/component-base/version.{key}={value}"
    for key, value in {"gitVersion": "v1.36.3", "gitMajor": "1", "gitMinor": "36"}.items()
)
# What `helm template` and `helm lint` take for the version of the cluster that they do not ask.
_HELM_STAMP: Final = " ".join(
    f"-X helm.sh/helm/v3/pkg/{package}.k8sVersion{part}={value}"
    for package in ("chartutil", "lint/rules")
    for part, value in {"Major": "1", "Minor": "36"}.items()
)


@dataclass(frozen=True, slots=True)
class Family:
    """Programs that come from one Go module."""

    name: str
    packages: Mapping[str, str]
    """Go package by program name."""
    expected_s: float
    """Seconds the first build took on two cores, downloads included."""
    link_flags: str = "-s -w"

    @property
    def source(self) -> Path:
        """The directory with its go.mod."""
        return _SOURCES / self.name

    def command(self, go: Path, output: Path) -> list[str]:
        """The build; ``output`` is a directory."""
        flags = ["-trimpath", "-buildvcs=false", "-ldflags", self.link_flags]
        return [str(go), "build", *flags, "-o", f"{output}{os.sep}", *self.packages.values()]

    def key(self) -> str:
        """Hash of all that decides what is built."""
        digest = hashlib.sha256(json.dumps([self.command(Path("go"), Path("out")), go_architecture()]).encode())
        for path in sorted(self.source.iterdir()):
            content = path.read_bytes()
            digest.update(f"{path.name} {len(content)}\n".encode() + content)
        return digest.hexdigest()[:12]


FAMILIES: Final = (
    Family("etcd", {"etcd": "."}, expected_s=40),
    Family(
        "kubernetes",
        {
            name: f"k8s.io/kubernetes/cmd/{name}"
            for name in ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubectl")
        },
        expected_s=230,
        link_flags=f"-s -w {_KUBERNETES_STAMP}",
    ),
    Family("kwok", {"kwok": "sigs.k8s.io/kwok/cmd/kwok"}, expected_s=60),
    Family(
        "prometheus",
        {name: f"github.com/prometheus/prometheus/cmd/{name}" for name in ("prometheus", "promtool")},
        expected_s=250,
    ),
)
HELM: Final = Family(
    "helm",
    {
        "helm": "helm.sh/helm/v3/cmd/helm",
        "helm-unittest": "github.com/helm-unittest/helm-unittest/cmd/helm-unittest",
    },
    expected_s=120,
    link_flags=f"-s -w {_HELM_STAMP}",
)
"""Not needed to run a sandbox, so only built for who installs the chart into one."""


def ensure_built(progress: Progress | None = None) -> dict[str, Path]:
    """The path of every program, after building those that are missing.

    kube-apiserver and etcd are taken from KUBEBUILDER_ASSETS when both are there.
    Raises OperationError with the end of go's output when a build fails.
    """
    own = _kubebuilder_assets()
    return _built([family for family in FAMILIES if not own.keys() >= family.packages.keys()], progress) | own


def ensure_helm(progress: Progress | None = None) -> dict[str, Path]:
    """The paths of helm and helm-unittest, built if need be. Raises OperationError like ``ensure_built``."""
    return _built([HELM], progress)


def _built(families: Sequence[Family], progress: Progress | None) -> dict[str, Path]:
    progress = progress or Silent()
    root = binaries_root()
    outputs = {family.name: root / f"{family.name}-{family.key()}" for family in families}
    missing = [family for family in families if not outputs[family.name].is_dir()]
    if missing:
        with locked_directory(root, waiting=lambda: progress.say("Waiting for another build to finish")):
            for leftover in root.glob(".building-*"):  # from a build that was killed
                shutil.rmtree(leftover, ignore_errors=True)
            missing = [family for family in missing if not outputs[family.name].is_dir()]
            for position, family in enumerate(missing, start=1):
                title = f"{family.name} ({position} of {len(missing)})"
                _build(family, outputs[family.name], title=title, progress=progress)
    return {name: outputs[family.name] / name for family in families for name in family.packages}


def _kubebuilder_assets() -> dict[str, Path]:
    folder = os.environ.get("KUBEBUILDER_ASSETS", "")
    paths = {name: Path(folder, name).absolute() for name in ("kube-apiserver", "etcd")}
    return paths if folder and all(os.access(path, os.X_OK) for path in paths.values()) else {}


def _build(family: Family, output: Path, *, title: str, progress: Progress) -> None:
    go = find_go(install_root=output.parent, progress=progress)
    expected_s = family.expected_s * 2 / min(os.cpu_count() or 2, 8)
    started_s = time.monotonic()
    draft = Path(tempfile.mkdtemp(prefix=".building-", dir=output.parent))
    try:
        with (draft / "log").open("wb") as log:
            process = subprocess.Popen(
                family.command(go, draft / "out"),
                cwd=family.source,
                env=build_environment(dict(os.environ)),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            while not _ended(process):
                progress.busy(f"Building {title}", elapsed_s=time.monotonic() - started_s, expected_s=expected_s)
        finally:
            if process.poll() is None:  # interrupted: the compilers that go started end with it
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        if process.returncode != 0:
            lines = (draft / "log").read_text(encoding="utf-8", errors="replace").strip().splitlines()[-12:]
            raise OperationError(
                f"building {family.name} failed (go ended with {process.returncode}); go's last lines:\n  "
                + "\n  ".join(lines)
            )
        (draft / "out").rename(output)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    progress.say(f"Built {title} in {time.monotonic() - started_s:.0f} s")


def _ended(process: subprocess.Popen[bytes]) -> bool:
    """Give it a second."""
    try:
        process.wait(timeout=1.0)
    except subprocess.TimeoutExpired:
        return False
    return True

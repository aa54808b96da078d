"""What an image would hold, without a container engine: the wheel, in a venv with exactly what its lock file names."""

import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.xdist_group("images")  # the wheel is built once

ROOT = Path(__file__).parents[2]
CONTAINERS = ROOT / "operator" / "containers"
PINNED = re.compile(r"^([\w.-]+)==(\S+)(?: ; (.+?))? \\$", re.MULTILINE)
ONLY_ELSEWHERE = ("sys_platform == 'win32'", "platform_system == 'Windows'")
BUILD = "import setuptools.build_meta as b, sys; print(getattr(b, sys.argv[1])(sys.argv[2]))"


def pinned(lock):
    """Versions by name of what a lock file installs on this machine."""
    found = PINNED.findall((CONTAINERS / lock).read_text() if isinstance(lock, str) else lock.read_text())
    return {name: version for name, version, marker in found if marker not in ONLY_ELSEWHERE}


def built(hook, source, target):
    target.mkdir(exist_ok=True)
    done = subprocess.run(
        [sys.executable, "-c", BUILD, hook, target],
        cwd=source,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return target / done.stdout.splitlines()[-1]


@pytest.fixture(scope="module")
def tracked():
    """Files of the package that git knows, and new ones that it does not ignore."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "operator/dynawatt", "examples"]
    try:
        listed = subprocess.run(command, cwd=ROOT, capture_output=True, check=True, timeout=30)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("not a git checkout")
    return [Path(name) for name in listed.stdout.decode().split("\0") if name and (ROOT / name).exists()]


@pytest.fixture(scope="module")
def sdist(tracked, tmp_path_factory):
    """Made in a copy, so that nothing is left in the repository."""
    source = tmp_path_factory.mktemp("source")
    for path in (*tracked, *map(Path, ("pyproject.toml", "README.md", "LICENSE"))):
        (source / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / path, source / path, follow_symlinks=False)
    return built("build_sdist", source, tmp_path_factory.mktemp("sdist"))


@pytest.fixture(scope="module")
def wheel(sdist, tmp_path_factory):
    """Made from the sdist, which therefore has all it needs."""
    folder = tmp_path_factory.mktemp("unpacked")
    with tarfile.open(sdist) as archive:
        archive.extractall(folder, filter="data")
    [source] = folder.iterdir()
    return built("build_wheel", source, tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module", params=["operator", "agent"])
def image(request, wheel, tmp_path_factory):
    """Runs ``dynawatt`` as in an image: read-only, with an environment of its own."""
    folder = tmp_path_factory.mktemp(request.param)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder / "venv"], check=True, timeout=60)
    [site] = (folder / "venv" / "lib").glob("python*/site-packages")
    for name in pinned(f"{request.param}.lock"):
        for entry in {file.parts[0] for file in importlib.metadata.files(name)} - {"..", "__pycache__"}:
            if not (site / entry).exists():
                (site / entry).symlink_to(importlib.metadata.distribution(name).locate_file(entry))
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", folder / "venv" / "bin" / "python"]
    subprocess.run([*pip, "install", "--quiet", "--no-index", "--no-deps", wheel], check=True, timeout=120)
    cache = folder / "cache"
    cache.mkdir()

    def run(*arguments, code=0):
        environment = {"PATH": f"{folder}/venv/bin:{os.environ['PATH']}", "PYTHONDONTWRITEBYTECODE": "1"}
        environment |= {"HOME": "/nonexistent", "XDG_CACHE_HOME": str(cache), "NUMBA_CACHE_DIR": str(cache / "jit")}
        done = subprocess.run(
            ["dynawatt", *arguments],
            cwd=cache,
            env=environment,
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
        assert done.returncode == code, done.stderr
        assert "Traceback" not in done.stderr
        return done.stdout + done.stderr

    run.name = request.param
    return run


def test_the_wheel_holds_every_file_of_the_package(wheel, tracked):
    """Whatever the code reads: Go modules, C sources, manifests, profiles, examples."""
    wanted = {
        str(path.relative_to("operator") if path.parts[0] == "operator" else "dynawatt" / path)
        for path in tracked
        if (ROOT / path).is_file() and path.suffix != ".proto"  # which only its generated code came from
    }
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if name.startswith("dynawatt/")}
    assert held == wanted


@pytest.mark.parametrize("lock", ["operator.lock", "agent.lock", "build.lock"])
def test_images_have_the_versions_that_are_tested(lock):
    everything = pinned(ROOT / "requirements.lock")
    found = pinned(lock)
    assert found
    assert found.items() <= everything.items()
    assert (CONTAINERS / lock).read_text().count("--hash=sha256:") >= len(found)


def test_the_lock_of_the_agent_is_small():
    assert not pinned("agent.lock").keys() & {"numpy", "numba", "scipy", "kopf", "plotly"}
    assert pinned("agent.lock").keys() < pinned("operator.lock").keys()


def test_the_command_starts(image):
    assert re.fullmatch(r"dynawatt \d+\.\d+\.\d+\n", image("--version"))
    assert f"Usage: dynawatt {image.name} " in image(image.name, "--help")


def test_the_main_process_gets_as_far_as_the_cluster(image):
    """All it imports is there."""
    name = ["--node-name=gpu-1"] if image.name == "agent" else []
    message = image(image.name, *name, "--kubeconfig=nowhere.yaml", code=2)
    assert "--kubeconfig nowhere.yaml: No such file" in message


@pytest.mark.parametrize("image", ["operator"], indirect=True)
def test_the_tools_of_the_operators_image_work(image):
    assert "kind: CustomResourceDefinition" in image("crds")
    assert "give-back" in image("uninstall", "--help")
    assert "llama-3.1-8b" in image("profile", "list")
    assert "Kubernetes control plane" in image("sandbox", "--help")
    assert "--trace" in image("demo", "--help")
    assert "nowhere.csv" in image("simulate", "--trace=nowhere.csv", code=2)  # to simulate takes a minute of compiling


@pytest.mark.parametrize("name", ["operator", "agent"])
def test_a_containerfile_takes_what_is_locked_and_drops_root(name):
    text = (CONTAINERS / f"{name}.Containerfile").read_text()
    *_, final = text.split("\nFROM ")
    assert "--require-hashes --requirement build.lock" in text
    assert f"--require-hashes --requirement {name}.lock" in text
    assert "USER 65532:65532" in final
    assert 'ENTRYPOINT ["dynawatt"]' in final
    copied = [word for line in re.findall(r"^COPY (?!--from)(.*)$", text, re.MULTILINE) for word in line.split()[:-1]]
    assert all((ROOT / path).exists() for path in copied)

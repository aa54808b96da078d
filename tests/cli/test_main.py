"""What every command has in common: its place in the help, exit codes, colours, completion, the plug-in's name."""

import os
import pty
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from dynawatt import cli
from dynawatt.cli import main

COLOUR = re.compile(r"\x1b\[[0-9;]*(3[0-7]|9[0-7]|38|48)[0-9;]*m")
ENTRY = "from dynawatt.cli.main import main; main()"
NAMES = [name for group in main.COMMANDS.values() for name in group]

CLOSED = """
apiVersion: v1
kind: Config
current-context: x
contexts: [{name: x, context: {cluster: x, user: x}}]
clusters: [{name: x, cluster: {server: SERVER}}]
users: [{name: x, user: {token: t}}]
"""


@pytest.fixture
def run(monkeypatch, capfd):
    """Exit code and output of ``dynawatt`` with these words, as it is started."""

    def ran(*words, program="dynawatt"):
        monkeypatch.setattr(sys, "argv", [program, *words])
        with pytest.raises(SystemExit) as end:
            main.main()
        out, err = capfd.readouterr()
        return end.value.code, out, err

    return ran


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Files that nothing can be made of."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00\x01")
    (tmp_path / "text").write_text("hello")
    (tmp_path / "half.yaml").write_text("not: [yaml")
    (tmp_path / "closed.yaml").write_text(CLOSED.replace("SERVER", "http://127.0.0.1:1"))
    (tmp_path / "schemeless.yaml").write_text(CLOSED.replace("SERVER", "cluster"))
    monkeypatch.chdir(tmp_path)


def environment(**more):
    kept = {key: value for key, value in os.environ.items() if key not in ("NO_COLOR", "FORCE_COLOR", "GITHUB_ACTIONS")}
    return kept | {"COLUMNS": "80", "TERM": "xterm-256color"} | more


def started(*words, **options):
    return subprocess.Popen([sys.executable, "-c", ENTRY, *words], **options)


def test_the_help_is_one_screen(run, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    code, out, err = run("--help")
    lines = out.splitlines()
    assert (code, err) == (0, "")
    assert 24 <= len(lines) <= 40
    for group, commands in main.COMMANDS.items():
        assert group in out
        for name, title in commands.items():
            [line] = [line for line in lines if line.startswith(f"│ {name} ")]
            assert title in line  # whole


def test_every_module_that_registers_a_command_is_listed():
    folder = Path(cli.__file__).parent
    modules = {path.stem for path in folder.glob("*.py")} | {path.parent.name for path in folder.glob("*/__init__.py")}
    registering = {name for name in modules if (folder / name).is_dir()}
    registering |= {name for name in modules - registering if "def register(" in (folder / f"{name}.py").read_text()}
    assert registering == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_every_command_explains_itself(run, name):
    code, out, err = run(name, "--help")
    assert (code, err) == (0, "")
    assert f"Usage: dynawatt {name} " in out


def test_the_version(run):
    code, out, _ = run("--version")
    assert code == 0
    assert re.fullmatch(r"dynawatt \d+\.\d+\.\d+\n", out)


@pytest.mark.parametrize(
    "words",
    [
        "nonsense",
        "--nonsense",
        "explain",
        "explain a/b/c",
        "explain a/b --kubeconfig=nowhere",
        "explain a/b --kubeconfig=folder",
        "explain a/b --kubeconfig=binary",
        "explain a/b --kubeconfig=text",
        "explain a/b --kubeconfig=half.yaml",
        "explain a/b --kubeconfig=schemeless.yaml",
        "doctor --kubeconfig=binary",
        "doctor --kubeconfig=closed.yaml --prometheus-url=cluster",
        "operator --kubeconfig=folder",
        "operator --metrics-port=99999",
        "operator --metrics-port=http",
        "operator --log-level=loud",
        "agent",
        "agent --node-name=Not_A_Name",
        "agent --node-name=a --kubeconfig=half.yaml",
        "uninstall give-back --kubeconfig=nowhere",
        "advise",
        "advise --trace=nowhere",
        "advise --trace=folder",
        "advise --prometheus=cluster",
        "advise --prometheus=http://127.0.0.1:1 --deployment=binary",
        "simulate",
        "simulate --trace=binary",
        "simulate --workload=nonsense",
        "simulate --workload=azure-2024-conv --policy=nonsense",
        "simulate --workload=azure-2024-conv --slo=nonsense",
        "profile show nonsense",
        "profile validate --data=nowhere",
        "load --trace=text --url=http://127.0.0.1:1",
        "load --synthetic --url=cluster",
        "demo --trace=nowhere",
        "demo --json=nowhere/result.json",
        "sandbox status --name=nonsense",
        "sandbox down --name=../nonsense",
        "sandbox up --nodes=0",
        "sandbox up --gpu=nonsense",
        "crds --write --check",
        "crds --check nowhere",
    ],
)
def test_wrong_input_is_one_line_and_exit_code_2(run, folder, words):
    code, out, err = run(*words.split())
    assert (code, out) == (2, "")
    assert err.startswith("dynawatt: ")
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    "words",
    [
        "explain a/b --kubeconfig=closed.yaml",
        "agent --node-name=a --kubeconfig=closed.yaml --journal-dir=/proc/nonsense",
        "advise --prometheus=http://127.0.0.1:1",
        "crds --check folder",
    ],
)
def test_a_failure_outside_is_one_line_and_exit_code_1(run, folder, words):
    code, out, err = run(*words.split())
    assert (code, out) == (1, "")
    assert err.startswith("dynawatt: ")
    assert err.count("\n") == 1


def test_without_a_command_the_help_is_shown(run):
    code, out, err = run()
    assert code == 2
    assert "Usage: dynawatt " in out + err


def test_a_reader_who_has_enough_is_not_bothered():
    process = started("crds", stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    process.stdout.close()
    assert process.wait(timeout=60) == 1
    assert process.stderr.read() == b""
    process.stderr.close()


def test_ctrl_c_ends_without_a_word(folder):
    process = started("uninstall", "give-back", "--kubeconfig=closed.yaml", stderr=subprocess.PIPE, text=True)
    assert "trying again" in process.stderr.readline()
    process.send_signal(signal.SIGINT)
    _, rest = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in rest


def on_a_terminal(words, **more):
    """What a command prints on a terminal of its own."""
    leader, follower = pty.openpty()
    with started(*words, stdout=follower, stderr=follower, env=environment(**more)) as process:
        os.close(follower)
        shown = b""
        while True:
            try:
                part = os.read(leader, 65536)
            except OSError:  # the other end is closed
                break
            if not part:
                break
            shown += part
        process.wait(timeout=60)
    os.close(leader)
    return shown.decode()


@pytest.mark.parametrize("words", ["--help", "simulate --help", "doctor --kubeconfig=closed.yaml"])
def test_no_color_turns_colours_off(folder, words):
    assert COLOUR.search(on_a_terminal(words.split()))
    assert not COLOUR.search(on_a_terminal(words.split(), NO_COLOR="1"))


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ("dynawatt ex", {"explain"}),
        ("dynawatt sandbox kube", {"kubeconfig", "kubectl"}),
        ("dynawatt crds --ch", {"--check"}),
    ],
)
def test_bash_completes_commands_and_their_options(line, wanted):
    asked = {"_DYNAWATT_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(line.count(" "))}
    with started(stdout=subprocess.PIPE, text=True, env=environment(**asked)) as process:
        out, _ = process.communicate(timeout=60)
    assert set(out.split()) == wanted


def test_the_script_for_completion():
    # `--show-completion` gives the same, for the shell that it finds itself started from.
    asked = {"_DYNAWATT_COMPLETE": "source_bash"}
    with started(stdout=subprocess.PIPE, text=True, env=environment(**asked)) as process:
        out, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert "complete -o default -F _" in out
    assert "_DYNAWATT_COMPLETE=complete_bash" in out


def test_as_the_plug_in_of_kubectl_it_is_named_as_that(run):
    _, out, _ = run("explain", "--help", program="/usr/bin/kubectl-dynawatt")
    assert "Usage: kubectl dynawatt explain " in out


def test_kubectl_finds_the_plug_in():
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        pytest.skip("no kubectl on PATH")
    scripts = Path(sys.executable).parent
    if not (scripts / "kubectl-dynawatt").exists():
        pytest.skip("dynawatt is not installed in this environment")
    path = f"{scripts}:{os.environ['PATH']}"
    done = subprocess.run(
        [kubectl, "dynawatt", "--version"], env=environment(PATH=path), capture_output=True, check=True
    )
    assert done.stdout.startswith(b"dynawatt ")

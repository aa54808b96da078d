import os

import pytest
import yaml

from dynawatt.adapters.kubernetes import kubeconfig
from dynawatt.adapters.kubernetes.kubeconfig import find_kubeconfig, present_namespace


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("KUBECONFIG", raising=False)
    return tmp_path


def test_what_is_given_counts_before_the_environment(home, monkeypatch):
    monkeypatch.setenv("KUBECONFIG", str(home / "other"))
    assert find_kubeconfig(home / "given") == home / "given"


def test_the_first_of_the_environment_that_exists(home, monkeypatch):
    (home / "second").write_text("")
    (home / "third").write_text("")
    monkeypatch.setenv("KUBECONFIG", os.pathsep.join(["", "~/first", "~/second", str(home / "third")]))
    assert find_kubeconfig(None) == home / "second"


def test_an_environment_that_leads_nowhere_is_named_and_not_passed_over(home, monkeypatch):
    (home / ".kube").mkdir()
    (home / ".kube" / "config").write_text("")
    monkeypatch.setenv("KUBECONFIG", str(home / "gone"))
    assert find_kubeconfig(None) == home / "gone"


def test_the_usual_file_or_else_the_pod(home):
    assert find_kubeconfig(None) is None
    (home / ".kube").mkdir()
    (home / ".kube" / "config").write_text("")
    assert find_kubeconfig(None) == home / ".kube" / "config"


@pytest.mark.parametrize(("context", "namespace"), [({"namespace": "prod"}, "prod"), ({}, "default")])
def test_namespace_of_the_current_context(tmp_path, context, namespace):
    contexts = [
        {"name": "other", "context": {"cluster": "c", "user": "u", "namespace": "elsewhere"}},
        {"name": "present", "context": {"cluster": "c", "user": "u"} | context},
    ]
    path = tmp_path / "config"
    path.write_text(
        yaml.safe_dump(
            {
                "clusters": [{"name": "c", "cluster": {"server": "https://127.0.0.1:1"}}],
                "users": [{"name": "u", "user": {}}],
                "contexts": contexts,
                "current-context": "present",
            }
        )
    )
    assert present_namespace(path) == namespace


def test_namespace_of_a_pod(tmp_path, monkeypatch):
    file = tmp_path / "namespace"
    monkeypatch.setattr(kubeconfig, "_POD_NAMESPACE", file)
    assert present_namespace(None) == "default"
    file.write_text("team-a\n")
    assert present_namespace(None) == "team-a"

"""What Helm makes of the chart, without a cluster."""

import json
import subprocess
import tarfile

import pytest
import yaml

from dynawatt.sandbox.build import ensure_built, ensure_helm
from dynawatt.sandbox.install import access_documents
from dynawatt.sandbox.nodesim.images import is_own_pod

pytestmark = pytest.mark.integration  # helm is built for it


@pytest.fixture(scope="module")
def chart(request):
    return request.path.parents[2] / "charts" / "dynawatt"


def test_lint_finds_nothing(offline_helm, chart):
    assert "0 chart(s) failed" in offline_helm("lint", "--strict", chart)


def test_the_suites_of_helm_unittest(chart):
    done = subprocess.run(
        [ensure_helm()["helm-unittest"], "--strict", chart], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("value", "place"),
    [
        ("operater.replicas=1", "operater"),
        ("operator.replica=0", "replica"),
        ("agent.clocks.nodelabel.key=a", "nodelabel"),
        ("prometheus.secret.keys={tokens}", "prometheus/secret/keys/0"),
        ("operator.logLevel=verbose", "operator/logLevel"),
        ("operator.planIntervalSeconds=5m", "operator/planIntervalSeconds"),
        ("monitoring.interval=15", "monitoring/interval"),
    ],
)
def test_a_typing_error_is_refused(offline_helm, chart, value, place):
    done = offline_helm.attempt("template", chart, "--set", value)
    assert done.returncode == 1
    assert "don't meet the specifications of the schema" in done.stderr
    assert place in done.stderr


def test_every_value_is_known_to_the_schema_and_described(chart):
    schema = json.loads((chart / "values.schema.json").read_text())

    def compare(values, known, path):
        known = known | schema["$defs"][known["$ref"].rpartition("/")[2]] if "$ref" in known else known
        assert known.get("description") or "$ref" in known, f"{path}: no description"
        if "properties" in known:
            assert known.get("additionalProperties") is False, path
            assert values.keys() == known["properties"].keys(), path
            for key, value in values.items():
                compare(value, known["properties"][key], f"{path}.{key}")

    defaults = yaml.safe_load((chart / "values.yaml").read_text())
    compare(defaults | {"global": {}}, schema | {"description": "root"}, "")


def test_rights_and_policies_are_those_of_the_sandbox(render):
    def plain(document):
        metadata = {key: document["metadata"][key] for key in ("name", "namespace") if key in document["metadata"]}
        return json.dumps(document | {"metadata": metadata}, sort_keys=True)

    kinds = {document["kind"] for document in access_documents()}
    hooks = ("dynawatt-uninstall", "dynawatt-test", "dynawatt-view", "dynawatt-edit")
    rendered = [
        plain(document)
        for document in render("operator.shapeNamespaces={*}")
        if document["kind"] in kinds and document["metadata"]["name"] not in hooks
    ]
    assert sorted(rendered) == sorted(map(plain, access_documents()))


def test_nothing_names_another_namespace(render):
    for document in render("operator.shapeNamespaces={*}", "networkPolicy.enabled=true", namespace="green"):
        assert "dynawatt-system" not in json.dumps(document), document["metadata"]["name"]
        assert document["metadata"].get("namespace", "green") == "green"


def test_every_pod_is_one_that_the_sandbox_runs(render):
    specs = [spec for document in render() if (spec := _pod_spec(document))]
    assert len(specs) == 6
    assert all(is_own_pod(spec) for spec in specs)


def test_the_rules_are_rules_and_the_dashboards_are_json(render, tmp_path):
    documents = render("monitoring.rules=true", "dashboards.enabled=true")
    rules = [document for document in documents if document["kind"] == "PrometheusRule"]
    assert rules
    for rule in rules:
        file = tmp_path / f"{rule['metadata']['name']}.yaml"
        file.write_text(yaml.safe_dump(rule["spec"]))
        subprocess.run([ensure_built()["promtool"], "check", "rules", file], check=True, timeout=60)
    boards = [document for document in documents if document["metadata"]["name"].startswith("dynawatt-dashboard-")]
    assert boards
    for board in boards:
        [text] = board["data"].values()
        assert json.loads(text)["title"]


def test_what_a_kwh_is_worth_is_given_to_the_dashboards(render):
    documents = render("dashboards.enabled=true", "dashboards.factors.price=0.31", "dashboards.factors.currency=EUR")
    [board] = [document for document in documents if document["metadata"]["name"] == "dynawatt-dashboard-energy"]
    [text] = board["data"].values()
    variables = {each["name"]: each for each in json.loads(text)["templating"]["list"]}
    assert {name: variables[name]["query"] for name in ("price", "currency", "carbon", "pue")} == {
        "price": "0.31", "currency": "EUR", "carbon": "480", "pue": "1"
    }  # fmt: skip
    assert variables["price"]["current"]["value"] == variables["price"]["options"][0]["value"] == "0.31"


@pytest.mark.parametrize("wrong", ["price=-1", "price=cheap", "pue=0.9", "currency=", "prize=1"])
def test_factors_that_make_no_sense_are_refused(render, wrong):
    with pytest.raises(AssertionError, match=r"dashboards[./]factors"):
        render("dashboards.enabled=true", f"dashboards.factors.{wrong}")


def test_a_package_stands_alone(offline_helm, chart, render, tmp_path):
    offline_helm("package", chart, "--destination", tmp_path)
    [package] = tmp_path.iterdir()
    with tarfile.open(package) as archive:
        assert not any(member.issym() for member in archive)
    text = offline_helm("template", "dynawatt", package, "--namespace=dynawatt-system")
    assert [document for document in yaml.safe_load_all(text) if document] == render()


def _pod_spec(document):
    spec = document.get("spec", {})
    return spec if document["kind"] == "Pod" else spec.get("template", {}).get("spec")

import time

import pytest

from dynawatt.api.group import DEFAULT_NAMESPACE
from dynawatt.api.switch import SWITCH_NAME

pytestmark = pytest.mark.integration

WAIT_S = 90.0
TICKS_S = 4.0  # a few looks of the operator


@pytest.fixture(scope="module")
def service(managed):
    """Under load for as long as the module runs; every test sets what it needs of the spec."""
    service = managed("steady")
    service.deploy(replicas=2)
    load = service.load()
    yield service
    assert load.stop().failed == 0


@pytest.fixture
def acting(service, until):
    """In Auto with both knobs, scaled to 1 and at a lower clock."""
    service.manage()
    until(lambda: service.settled(1) and service.claimed(), within_s=WAIT_S)
    service.until("Ready", "True", "Reconciled")
    until(service.slowed, within_s=WAIT_S)
    return service


def fingerprint(service):
    """Changes with every write to the Deployment or its pods."""
    objects = [service.deployment(), *service.pods()]
    return [(found["metadata"]["uid"], found["metadata"]["resourceVersion"]) for found in objects]


def test_apply_plan_scale_and_deletion_gives_everything_back(managed, until, all_clocks_default):
    service = managed("lifecycle")
    service.deploy(replicas=3)
    before = service.deployment()["spec"]
    load = service.load()
    service.manage()
    until(lambda: service.status().get("lastDecision"), within_s=WAIT_S)
    until(lambda: service.replicas() == 1, within_s=WAIT_S)
    until(lambda: service.claimed() and len(service.claims()) == 1, within_s=WAIT_S)
    until(service.slowed, within_s=WAIT_S)
    status = service.status()
    assert status["adopted"] == {"replicas": 3, "commanded": 1}
    assert status["lastDecision"]["chosen"]["replicas"] == 1
    assert len(status["lastDecision"]["runnersUp"]) >= 2
    assert {change["knob"] for change in status["lastChanges"]} == {"Clock", "Replicas"}
    assert ("Normal", "Scaled") in service.events()

    service.delete("llmservice")
    assert service.deployment()["spec"] == before
    assert not any(service.claims())
    until(all_clocks_default, within_s=WAIT_S)
    until(lambda: service.settled(3), within_s=WAIT_S)
    report = load.stop()
    assert report.succeeded > 0
    assert report.failed == 0


def test_recommend_writes_nothing_but_status(service, until):
    service.manage(mode="Recommend")
    service.until("Ready", "True", "Recommending")
    until(lambda: service.settled(2), within_s=WAIT_S)
    before = fingerprint(service)
    decided = service.status()["lastDecision"]
    time.sleep(TICKS_S)
    assert decided["chosen"]["replicas"] == 1
    assert fingerprint(service) == before
    assert service.condition("ClocksGoverned")[:2] == ("False", "NoClaims")
    assert "adopted" not in service.status()


def test_a_steady_service_is_not_written(acting, until):
    def quiet():
        before = acting.llmservice()["metadata"]["resourceVersion"]
        time.sleep(2 * TICKS_S)  # longer than a plan
        return acting.llmservice()["metadata"]["resourceVersion"] == before

    until(quiet, within_s=WAIT_S)
    written = [entry["time"] for entry in acting.status()["lastChanges"]]
    assert written == sorted(written, reverse=True)


def test_mode_off_gives_back_and_auto_starts_anew(acting, until):
    acting.manage(mode="Off")
    acting.until("Ready", "True", "SwitchedOff")
    assert acting.replicas() == 2
    assert not any(acting.claims())
    assert acting.condition("ClocksGoverned")[:2] == ("False", "NoClaims")
    assert "adopted" not in acting.status()


def test_paused_holds_whatever_the_spec_says(acting, until):
    acting.manage(paused=True, replicas={"min": 2, "max": 4}, mode="Off")
    acting.until("Ready", "True", "Paused")
    before = fingerprint(acting)
    time.sleep(TICKS_S)
    assert fingerprint(acting) == before
    assert acting.replicas() == 1
    assert acting.claimed()
    acting.manage(replicas={"min": 2, "max": 4})
    until(lambda: acting.replicas() == 2, within_s=WAIT_S)


@pytest.fixture
def switch(dynawatt_kubectl):
    """Sets the cluster-wide switch."""
    config_map = ("configmap", SWITCH_NAME, f"--namespace={DEFAULT_NAMESPACE}")

    def set_to(enabled):
        dynawatt_kubectl("delete", *config_map, "--ignore-not-found")
        dynawatt_kubectl("create", *config_map, f"--from-literal=enabled={enabled}")

    yield set_to
    dynawatt_kubectl("delete", *config_map, "--ignore-not-found")


def test_the_switch_stops_everything_until_it_is_on_again(acting, until, switch, all_clocks_default):
    switch("false")
    until(all_clocks_default, within_s=15.0)
    message = acting.until("Ready", "False", "SwitchedOff")
    assert f"ConfigMap {SWITCH_NAME} has enabled: 'false'" in message
    before = fingerprint(acting)
    acting.manage(replicas={"min": 2, "max": 4})
    acting.until("Ready", "False", "SwitchedOff")
    time.sleep(TICKS_S)
    assert fingerprint(acting) == before
    assert acting.claimed()
    assert all_clocks_default()

    switch("true")
    until(lambda: acting.settled(2) and acting.claimed(), within_s=WAIT_S)
    acting.until("Ready", "True", "Reconciled")
    until(acting.slowed, within_s=WAIT_S)


def test_a_knob_taken_away_is_given_back(acting, until):
    acting.manage(knobs=["Clock"])
    acting.until("Ready", "True", "Reconciled")
    assert acting.replicas() == 2
    until(acting.claimed, within_s=WAIT_S)
    acting.manage(knobs=["Replicas"])
    acting.until("ClocksGoverned", "False", "ClockKnobOff")
    assert not any(acting.claims())


def test_a_foreign_write_is_named_and_not_fought(acting, dynawatt_kubectl, until):
    dynawatt_kubectl("scale", "deployment", acting.name, "--replicas=3")
    message = acting.until("Conflicting", "True", "ForeignWrite")
    assert "'kubectl'" in message
    assert "3 replicas" in message
    assert acting.condition("Ready")[:2] == ("False", "ForeignWrite")
    assert ("Warning", "ForeignWrite") in acting.events()
    until(lambda: len(acting.claims()) == 3 and acting.claimed(), within_s=WAIT_S)  # clocks still follow the load
    time.sleep(TICKS_S)
    assert acting.replicas() == 3

    acting.manage(mode="Off")
    acting.until("Ready", "True", "SwitchedOff")
    assert acting.replicas() == 3
    acting.manage()
    until(lambda: acting.replicas() == 1, within_s=WAIT_S)
    assert acting.status()["adopted"]["replicas"] == 3
    acting.manage(mode="Off")
    until(lambda: acting.replicas() == 3, within_s=WAIT_S)
    dynawatt_kubectl("scale", "deployment", acting.name, "--replicas=2")


def test_without_drain_replicas_stay_and_clocks_change(managed, until):
    service = managed("no-drain")
    service.deploy(replicas=2, drain=False)
    load = service.load()
    service.manage()
    until(service.slowed, within_s=WAIT_S)
    message = service.until("DrainConfigured", "False", "DrainNotConfigured")
    load.stop()
    assert "--shutdown-timeout 60" in message
    assert ("Warning", "DrainNotConfigured") in service.events()
    assert service.replicas() == 2
    assert service.deployment()["metadata"]["generation"] == 1
    assert "adopted" not in service.status()


@pytest.mark.parametrize(
    ("name", "image", "reason"),
    [("missing", None, "DeploymentNotFound"), ("nginx", "docker.io/library/nginx:1.29", "NoVllmContainer")],
)
def test_a_target_that_cannot_be_managed_is_left_alone(managed, until, name, image, reason):
    service = managed(name)
    if image is not None:
        service.deploy(replicas=1, image=image)
        before = fingerprint(service)
    service.manage()
    assert name in service.until("Ready", "False", reason)
    until(lambda: ("Warning", reason) in service.events(), within_s=WAIT_S)
    if image is not None:
        time.sleep(TICKS_S)
        assert fingerprint(service) == before
    service.delete("llmservice")


def test_an_autoscaler_keeps_its_replicas(service, dynawatt_kubectl, until):
    service.manage(mode="Off")
    service.until("Ready", "True", "SwitchedOff")
    dynawatt_kubectl("autoscale", "deployment", service.name, "--min=2", "--max=4", "--cpu=80%")
    generation = service.deployment()["metadata"]["generation"]
    service.manage()
    message = service.until("Conflicting", "True", "ScaledByHPA")
    assert f"HorizontalPodAutoscaler {service.name}" in message
    until(lambda: service.condition("Ready")[:2] == ("False", "ScaledByHPA"), within_s=WAIT_S)
    assert ("Warning", "ScaledByHPA") in service.events()
    until(service.claimed, within_s=WAIT_S)
    assert service.deployment()["metadata"]["generation"] == generation
    service.delete("hpa")
    service.until("Conflicting", "False", "NoConflict")


def test_a_second_llmservice_for_the_same_deployment_is_refused(acting, managed):
    second = managed("second")
    second.manage(deploymentRef={"name": acting.name})
    message = second.until("Ready", "False", "UnsupportedDeployment")
    assert f"LLMService {acting.name!r}" in message
    second.delete("llmservice")
    assert acting.replicas() == 1


def test_a_deployment_that_is_deleted_first_blocks_nothing(managed, until):
    service = managed("short-lived")
    service.deploy(replicas=1)
    service.manage()
    service.until("Ready", "False", "NoLoadYet")
    service.delete("deployment")
    service.until("Ready", "False", "DeploymentNotFound")
    assert service.status().get("shapes", []) == []
    service.delete("llmservice")

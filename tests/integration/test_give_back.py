"""Never fewer serving pods than before, or than there are in the end; and no request fails."""

import pytest

from dynawatt.api.group import CLAIM_ANNOTATION

pytestmark = pytest.mark.integration

WAIT_S = 150.0
RESHAPING = {"knobs": ["Clock", "Shape"], "tensorParallelSizes": [1, 4]}


@pytest.fixture(scope="module")
def service(managed):
    """Under load that never stops."""
    service = managed("returning")
    service.deploy(replicas=2, tensor_parallel=4)
    load = service.load(every_s=1.0, output_tokens=200)  # one is in flight at nearly any time
    yield service
    report = load.stop()
    assert report.succeeded > 30
    assert report.failed == 0


@pytest.fixture
def original(service, until):
    """The spec of the Deployment as it is to be given back; its two replicas serve."""
    until(lambda: service.settled(2) and not service.siblings(), within_s=WAIT_S)
    return service.deployment()["spec"]


@pytest.fixture
def reshaped(service, original, until):
    """A sibling of one GPU serves alone; all that happens to the service from now on."""
    service.manage(**RESHAPING)
    until(lambda: service.replicas() == 0 and serves_alone(service), within_s=WAIT_S)
    until(lambda: service.status().get("adopted") == {"replicas": 2, "commanded": 0}, within_s=WAIT_S)
    with service.watched() as watched:
        yield watched


def serves_alone(service):
    pods = service.pods()
    return len(service.siblings()) == len(pods) == 1 and CLAIM_ANNOTATION in pods[0]["metadata"]["annotations"]


def is_given_back(service, original):
    return service.settled(2) and not service.siblings() and service.deployment()["spec"] == original


def test_mode_off(service, reshaped, original, until):
    service.manage(**RESHAPING, mode="Off")
    service.until("Ready", "True", "SwitchedOff")
    assert is_given_back(service, original)
    assert "adopted" not in service.status()
    assert not any(service.claims())
    assert reshaped.fewest_serving == 1


def test_the_knob_taken_away(service, reshaped, original, until):
    service.manage(knobs=["Clock"])
    until(lambda: is_given_back(service, original), within_s=WAIT_S)
    service.until("Ready", "True", "Reconciled")
    until(service.claimed, within_s=WAIT_S)  # clocks may stay governed
    assert reshaped.fewest_serving == 1


def test_deletion_while_a_reshape_is_half_done(service, original, until, all_clocks_default):
    with service.watched() as watched:
        begun = watched.at(
            lambda asked, _: len(asked) > 1, lambda: service.delete("llmservice", wait=False)
        )  # the sibling was just created
        service.manage(**RESHAPING)
        assert begun.wait(WAIT_S)
        service.delete("llmservice")
        until(lambda: is_given_back(service, original), within_s=WAIT_S)
    assert watched.fewest_serving >= 1  # it may have been scaled before
    until(all_clocks_default, within_s=WAIT_S)


def test_deletion_while_the_operator_is_away(service, reshaped, original, dynawatt_sandbox, until, all_clocks_default):
    dynawatt_sandbox.stop_operator()
    service.delete("llmservice", wait=False)
    dynawatt_sandbox.start_operator()
    service.delete("llmservice")
    until(lambda: is_given_back(service, original), within_s=WAIT_S)
    assert reshaped.fewest_serving == 1
    until(all_clocks_default, within_s=WAIT_S)


def test_with_the_deployment_everything_goes(managed, dynawatt_kubectl, until):
    service = managed("ending")
    service.deploy(replicas=1, tensor_parallel=4)
    load = service.load(every_s=1.0, output_tokens=200)
    service.manage(**RESHAPING)
    until(lambda: service.replicas() == 0 and serves_alone(service), within_s=WAIT_S)
    load.stop()
    service.delete("llmservice", "deployment")
    until(service.gone, within_s=WAIT_S)

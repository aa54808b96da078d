import logging

import pytest

from dynawatt.adapters.calibration_file import CalibrationFile
from dynawatt.controller.learnt import Learnt
from dynawatt.controller.shape_models import shape_models
from dynawatt.controller.target import Workload, read_target
from dynawatt.planning.calibration.comparing import Comparison

from .conftest import make_deployment, make_pod

PRODUCT = "NVIDIA-H100-80GB-HBM3"


def models_of(gpus):
    settings = read_target(Workload(make_deployment(gpus=gpus), []), name="llama", container=None).settings
    return shape_models(settings, PRODUCT)


MODELS, WIDER = models_of(1), models_of(2)
PROFILE_S = MODELS.replica.model.startup_s
SLOW = Comparison(gaps=10_000, gap_sum_s=1.3, predicted_gap_sum_s=1.0)


def pods(*seconds):
    return Workload(
        make_deployment(),
        [make_pod(f"p{index}-{s}", ready=f"2026-01-01T00:00:{s}Z") for index, s in enumerate(seconds)],
    )


def slow(learnt, windows=12, begin_s=0.0):
    for number in range(windows):
        learnt.add(MODELS, SLOW, begin_s + 60.0 * number, 60.0)


def test_factors_go_into_the_models_of_the_same_profile_alone():
    learnt = Learnt()
    before = learnt.applied(MODELS)
    assert (before.replica.time_factor, learnt.applied(MODELS)) == (1.0, before)
    slow(learnt)
    after = learnt.applied(MODELS)
    assert after.replica.time_factor == 1.275
    assert learnt.applied(MODELS) is after
    assert learnt.applied(after).replica.time_factor == 1.275  # not its square
    assert learnt.of(after).replica.time_factor == 1.0
    assert learnt.applied(WIDER).replica.time_factor == 1.0


def test_windows_of_many_services_at_once_count_as_one():
    learnt = Learnt()
    for now_s in range(0, 200, 10):
        learnt.add(MODELS, SLOW, float(now_s), 60.0)
    assert learnt.of(MODELS).judged == frozenset()
    assert "3 windows" in learnt.of(MODELS).state.frozen
    for now_s in range(200, 560, 10):
        learnt.add(MODELS, SLOW, float(now_s), 60.0)
    assert learnt.of(MODELS).judged == {"time"}


def test_every_start_counts_once():
    learnt, counted = Learnt(), set()
    assert learnt.startup_s(MODELS, MODELS) == PROFILE_S
    for _ in range(3):
        learnt.count_starts(MODELS, pods(20, 20), counted)
    assert learnt.of(MODELS).state.startup.starts_s == [20.0, 20.0]
    assert learnt.startup_s(MODELS, MODELS) == 20.0  # not that of the profile any more
    learnt.count_starts(MODELS, pods(20, 20, 24), counted)
    assert learnt.startup_s(MODELS, MODELS) == 22.0
    assert learnt.startup_s(WIDER, MODELS) == 22.0  # as long as none of its own was started
    learnt.count_starts(WIDER, pods(30), wider := set())
    assert learnt.startup_s(WIDER, MODELS) == pytest.approx(26.0)  # as of 22, 22 and 30
    learnt.count_starts(WIDER, pods(30, 30, 30), wider)
    assert learnt.startup_s(WIDER, MODELS) == 30.0


async def test_all_of_it_outlives_the_operator(tmp_path):
    file = CalibrationFile(tmp_path / "calibration.json")
    learnt, counted = Learnt(file), set()
    slow(learnt)
    learnt.count_starts(MODELS, pods(20, 20, 20), counted)
    learnt.applied(WIDER)
    await learnt.save(0.0)
    again = Learnt(file)
    assert again.applied(MODELS).replica.time_factor == 1.275
    assert again.of(MODELS).judged == {"time"}
    again.count_starts(MODELS, pods(20, 20, 20), set())
    assert again.of(MODELS).state.to_dict() == learnt.of(MODELS).state.to_dict()
    await again.save(0.0)  # a profile that nobody asked for stays
    assert Learnt(file).of(WIDER).state.to_dict() == learnt.of(WIDER).state.to_dict()


async def test_it_is_written_on_change_only_and_at_most_once_a_minute(tmp_path):
    path = tmp_path / "calibration.json"
    learnt = Learnt(CalibrationFile(path))
    learnt.applied(MODELS)
    await learnt.save(0.0)
    assert not path.exists()
    slow(learnt, 1)
    await learnt.save(100.0)
    slow(learnt, 1, begin_s=60.0)
    path.unlink()
    await learnt.save(159.0)
    assert not path.exists()
    await learnt.save(160.0)
    assert path.exists()


@pytest.mark.parametrize(
    "content",
    [
        '{"version": 2, "shapes": {}}',
        '{"version": 1, "shapes": []}',
        '{"version": 1, "shapes": {"NAME": {}}}',
        '{"version": 1, "shapes": {"NAME": []}}',
        '{"version": 1, "shapes": {"NAME": {"saved": 0, "judged": [], "state": {"version": 1}}}}',
    ],
)
def test_what_cannot_be_read_is_learnt_anew(tmp_path, caplog, content):
    path = tmp_path / "calibration.json"
    path.write_text(content.replace("NAME", MODELS.replica.name))
    with caplog.at_level(logging.WARNING):
        assert Learnt(CalibrationFile(path)).applied(MODELS).replica.time_factor == 1.0
    assert "anew" in caplog.text


async def test_a_disk_that_fails_costs_nothing_but_memory(tmp_path, caplog):
    (tmp_path / "full").write_text("")
    learnt = Learnt(CalibrationFile(tmp_path / "full" / "calibration.json"))
    slow(learnt)
    with caplog.at_level(logging.WARNING):
        await learnt.save(0.0)
    assert "not kept" in caplog.text
    assert learnt.applied(MODELS).replica.time_factor == 1.275

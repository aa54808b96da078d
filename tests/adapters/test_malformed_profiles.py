from dataclasses import replace

import pytest
import yaml

from dynawatt.adapters.profile_files import read_profile, write_profile
from dynawatt.errors import InvalidInputError

from .model_profiles import PLAIN


def document_with(path, *keys, value):
    """A file like PLAIN's, with one value changed, or removed where ``value`` is ...."""
    write_profile(path, PLAIN)
    document = yaml.safe_load(path.read_text())
    *parents, last = keys
    place = document
    for key in parents:
        place = place[key]
    if value is ...:
        del place[last]
    else:
        place[last] = value
    path.write_text(yaml.safe_dump(document))
    return path


STEP = ("spec", "shapes", 0, "step")
WORK_OF_SHAPE = ("spec", "shapes", 0, "work")


@pytest.mark.parametrize(
    ("keys", "value", "problem"),
    [
        ((*STEP, "memorySeconds", 1), float("nan"), r"memorySeconds\[1\]: nan: must be a finite number"),
        ((*STEP, "memorySeconds", 1), float("inf"), r"memorySeconds\[1\]: inf: must be a finite number"),
        ((*STEP, "memorySeconds", 1), "nan", r"memorySeconds\[1\]: 'nan': must be a finite number"),
        ((*STEP, "memorySeconds", 1), -1e-9, r"memorySeconds\[1\]: -1e-09: must be greater than or equal to 0"),
        ((*STEP, "memorySeconds", 1), 3601, r"must be less than or equal to 3600"),
        ((*STEP, "memorySeconds", 1), True, r"memorySeconds\[1\]: True: must be a number"),
        ((*STEP, "memorySeconds", 1), "fast", r"memorySeconds\[1\]: 'fast': must be a valid number"),
        ((*STEP, "memorySeconds"), [1.0, 1.0], "`memorySeconds` has 2 values: must have as many as `tokens`, 3"),
        ((*STEP, "computeSeconds"), [1.0] * 4, "`computeSeconds` has 4 values: must have as many as `tokens`, 3"),
        ((*STEP, "communicationSeconds"), [1.0] * 4, "`communicationSeconds` has 4 values"),
        ((*STEP, "attentionSeconds"), [1.0] * 4, "`attentionSeconds` has 4 values: must have as many as `requests`"),
        ((*STEP, "attentionSecondsPerContextToken"), [0.0] * 4, "`attentionSecondsPerContextToken` has 4 values"),
        ((*WORK_OF_SHAPE, "flops"), [0.0] * 4, "`work.flops` has 4 values: must have as many as `step.tokens`, 3"),
        ((*WORK_OF_SHAPE, "bytes"), [0.0] * 4, "`work.bytes` has 4 values"),
        ((*WORK_OF_SHAPE, "linkBytes"), [0.0] * 4, "`work.linkBytes` has 4 values"),
        ((*STEP, "tokens"), [1, 64, 64], r"spec.shapes\[0\].step.tokens: .*must be ascending: 64 follows 64"),
        ((*STEP, "tokens"), [2, 64, 128], "`tokens` must begin with 1, not 2"),
        ((*STEP, "requests"), [1, 2, 3], "`requests` must begin with 0, not 1"),
        ((*STEP, "referenceClockMegahertz"), 2000, "`referenceClockMegahertz` 2000 must be within the clocks of `gpu`"),
        ((*STEP, "overlapNorm"), 0.9, "overlapNorm: 0.9: must be greater than or equal to 1"),
        ((*STEP, "attentionComputeShare"), 1.1, "must be less than or equal to 1"),
        ((*STEP, "pairSeconds"), 1, "pairSeconds: is not a known field"),
        ((*STEP, "secondsPerPair"), ..., "secondsPerPair: must be given"),
        (("spec", "power", "clockBand"), -0.1, "spec.power.clockBand: -0.1: must be greater than or equal to 0"),
        (("spec", "precision"), "int4", "spec.precision: 'int4': must be 'bf16', 'fp8' or 'mxfp4'"),
        (("spec", "gpu", "name"), "h100", "GPU 'h100' is not known"),
        (("spec", "gpu", "maxMegahertz"), 2100, "derive the profile again"),
        (("spec", "gpu", "minMegahertz"), 1995, "`minMegahertz` must be at most `maxMegahertz`"),
        (("spec", "architecture", "kvHeads"), 7, "`kvHeads` 7 must divide `heads` 32"),
        (("spec", "architecture", "expertsPerToken"), 2, "`expertsPerToken` 2 must be at most `experts` 1"),
        (("spec", "architecture", "layers"), 0, "spec.architecture.layers: 0: must be greater than or equal to 1"),
        (("spec", "weightBytes"), 0, "spec.weightBytes: 0: must be greater than 0"),
        (("spec", "shapes"), [], "spec.shapes"),
        (("spec", "shapes", 0, "tensorParallelSize"), 3, "`tensorParallelSize` 3 must divide `heads` 32"),
        (("kind",), "LLMService", "kind: 'LLMService': must be 'ModelProfile'"),
        (("apiVersion",), ..., "apiVersion: must be given"),
        (("metadata", "name"), "A_b", "metadata.name: 'A_b': must be a DNS-1123 name"),
    ],
)
def test_a_malformed_profile_is_refused_with_file_field_and_bound(tmp_path, keys, value, problem):
    path = document_with(tmp_path / "bad.yaml", *keys, value=value)
    with pytest.raises(InvalidInputError, match=problem) as caught:
        read_profile(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def test_an_iteration_takes_time(tmp_path):
    path = document_with(tmp_path / "bad.yaml", *STEP, "memorySeconds", value=[0.0, 1.0, 1.0])
    document = yaml.safe_load(path.read_text())
    document["spec"]["shapes"][0]["step"]["computeSeconds"][0] = 0.0
    path.write_text(yaml.safe_dump(document))
    with pytest.raises(InvalidInputError, match="must not both be 0"):
        read_profile(path)


def test_shapes_stand_once_and_in_order(tmp_path):
    path = tmp_path / "bad.yaml"
    write_profile(path, replace(PLAIN, shapes=dict.fromkeys((1, 2), PLAIN.shapes[1])))
    document = yaml.safe_load(path.read_text())
    document["spec"]["shapes"].reverse()
    path.write_text(yaml.safe_dump(document))
    with pytest.raises(InvalidInputError, match=r"`shapes` must be ascending in `tensorParallelSize`.*\[2, 1\]"):
        read_profile(path)

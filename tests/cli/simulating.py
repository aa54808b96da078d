"""Runs ``dynawatt simulate`` in this process; latency models as coarse as tests can do with."""

import json

import pytest
from typer.testing import CliRunner

from dynawatt.adapters import surface_source
from dynawatt.cli import main
from dynawatt.simulation import energy_tuning, governor_clocks, sizing, study


def simulate(*arguments):
    words = ["simulate", *map(str, arguments)]
    result = CliRunner().invoke(main.build_app(words), words, standalone_mode=False)
    if result.exception:
        raise result.exception
    return result


def simulate_json(*arguments):
    return json.loads(simulate(*arguments, "--json", "-").stdout)


@pytest.fixture(scope="module", autouse=True)
def coarse(tmp_path_factory):
    """Few clocks, few requests, few settings to choose from; nothing in the user's cache, and no workers to start."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "cache"))
        patch.setattr(governor_clocks, "_FINE_MHZ", 600)
        patch.setattr(governor_clocks, "_COARSE_MHZ", 600)
        patch.setattr(study, "_REQUESTS", 300)
        patch.setattr(study, "_FLEET_SIZES", (1,))
        patch.setattr(sizing, "_REQUESTS", 600)
        patch.setattr(sizing.tune_chunk, "__defaults__", ((1024, 2048),))
        patch.setitem(energy_tuning.tune_for_energy.__kwdefaults__, "chunks", (1024, 1536))
        patch.setitem(energy_tuning.tune_for_energy.__kwdefaults__, "thresholds", (256,))
        patch.setitem(surface_source.CachedSurfaces.__init__.__kwdefaults__, "workers", 0)
        yield

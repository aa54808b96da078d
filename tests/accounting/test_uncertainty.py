from dataclasses import replace

from dynawatt.accounting.uncertainty import level_band
from dynawatt.adapters.profile_files import shipped_profiles


def test_the_worst_set_of_measurements_counts():
    profile = shipped_profiles()["llama-3.1-70b-bf16-h100-sxm"]
    errors = [residual.p90_abs_error for residual in profile.residuals if residual.quantity == "power"]
    assert len(errors) > 1
    assert level_band(profile) == max(errors)


def test_watts_that_were_never_measured_are_the_least_sure():
    profiles = shipped_profiles().values()
    unmeasured = level_band(replace(next(iter(profiles)), residuals=()))
    assert all(0 < level_band(profile) <= unmeasured < 1 for profile in profiles)

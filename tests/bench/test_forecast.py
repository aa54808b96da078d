"""The forecast over both built-in weeks, beside what else one could forecast with.

Each is given the week before: the same workload, another seed, the level 10 % lower.
"""

import json
import os
import subprocess
import sys
import time
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from scipy.special import ndtri
from scipy.stats import poisson

from dynawatt.forecast.rate import RateForecast
from dynawatt.forecast.slots import DAY_SLOTS, HORIZON_SLOTS, SLOT_S, WEEK_SLOTS, Calendar
from dynawatt.workload.builtin import built_in

from .loads import best_of

pytestmark = pytest.mark.bench

PEER_SCRIPT = Path(__file__).parent / "peers/forecasts.py"
PEER_PYTHON = os.environ.get("DYNAWATT_BENCH_PEERS", sys.executable)
"""A Python that has statsmodels and statsforecast from PyPI; a peer that it does not have is left out."""
SCRIPTED = ("arima", "auto_ets", "theta", "mstl")
PATIENCE_S = 200.0
"""With a peer: a test that takes four minutes is taken to hang."""
LEVELS = (0.025, 0.5, 0.95, 0.975)
FIRST_MONDAY_S = {"azure-2024-conv": 86400.0, "azure-2024-code": 3 * 86400.0}
"""Of the weeks, which begin on a Sunday and on a Friday."""
HISTORY_SEED, WEEK_SEED = 21, 22
"""Of no load that the forecast was developed with."""
BAND = (0.92, 0.98)


PEERS = {}
"""What the peers of packages achieve, by load and name; filled by ``test_peer``."""
ALWAYS = np.arange(WEEK_SLOTS - HORIZON_SLOTS + 1)
COMPARED = ALWAYS[::HORIZON_SLOTS]
"""Slots at which forecasts are compared: every slot is forecast once, for some peers take a second for each."""


@pytest.mark.parametrize("peer", SCRIPTED)
@pytest.mark.parametrize("name", FIRST_MONDAY_S)
def test_peer(tmp_path, name, peer):
    history, week = counts(name, HISTORY_SEED, level=0.9), counts(name, WEEK_SEED, level=1.0)
    np.savez(tmp_path / "load.npz", history=history, week=week, origins=COMPARED, horizon=HORIZON_SLOTS, levels=LEVELS)
    PEERS[name, peer] = scripted(peer, week, tmp_path)
    if "not_run" in PEERS[name, peer]:
        pytest.skip(PEERS[name, peer]["not_run"])


@pytest.mark.parametrize("name", FIRST_MONDAY_S)
def test_forecast(publish, name):
    history, week = counts(name, HISTORY_SEED, level=0.9), counts(name, WEEK_SEED, level=1.0)
    origins = COMPARED
    ours, update_s = forecast(name, history, week)
    cold, _ = forecast(name, None, week)
    results = {
        "dynawatt": judged(ours[:, origins], week, origins),
        "dynawatt, no history": judged(cold[:, origins[1:]], week, origins[1:]),
        "constant": judged(constant(history, week, origins), week, origins),
        "last week": judged(last_week(history, week, origins), week, origins),
        "kalman": judged(kalman(history, week, origins), week, origins),
    }
    for peer in SCRIPTED:
        results[peer] = PEERS.get((name, peer), {"not_run": "not asked for"})
    losses = {peer: found["p95_pinball_rps"] for peer, found in results.items() if "p95_pinball_rps" in found}
    best = min((peer for peer in losses if not peer.startswith("dynawatt")), key=losses.__getitem__)
    # From every slot, and without the first forecast, at which nobody has seen that the level is another.
    quick = {"dynawatt": ours} | {
        peer: run(history, week, ALWAYS) for peer, run in (("last week", last_week), ("kalman", kalman))
    }
    every_slot = {peer: judged(found, week, ALWAYS) for peer, found in quick.items()}
    later = {peer: judged(found[:, 1:], week, ALWAYS[1:])["p95_pinball_rps"] for peer, found in quick.items()}
    missing = [peer for peer in results if peer not in losses]
    publish(
        f"forecast_{name}",
        f"95 % band covers {every_slot['dynawatt']['coverage']:.3f} (target {BAND[0]:g}-{BAND[1]:g}), P95 pinball loss "
        f"{losses['dynawatt']:.3f} requests/s against {losses[best]:.3f} of {best}, the best peer "
        f"(from every slot but the first {later['dynawatt']:.4f} against {later['last week']:.4f} of last week); "
        f"an update takes {1e3 * np.median(update_s):.2f} ms (median), {1e3 * update_s.max():.1f} ms (longest)"
        + (f"; not run: {', '.join(missing)}" if missing else ""),
        load=name,
        slots=WEEK_SLOTS,
        mean_rps=float(week.mean() / SLOT_S),
        seeds={"history": HISTORY_SEED, "week": WEEK_SEED},
        forecasts_compared=len(origins),
        update_median_s=float(np.median(update_s)),
        update_longest_s=float(update_s.max()),
        coverage_within_target=bool(BAND[0] <= every_slot["dynawatt"]["coverage"] <= BAND[1]),
        pinball_below_every_peer=bool(losses["dynawatt"] < losses[best] and min(later, key=later.get) == "dynawatt"),
        every_slot=every_slot,
        p95_pinball_rps_every_slot_but_the_first=later,
        every_slot_no_history=judged(cold[:, 1:], week, ALWAYS[1:]),
        forecasts=results,
    )


def test_state(publish):
    history = counts("azure-2024-conv", HISTORY_SEED, level=0.9)
    learner = RateForecast()
    _, learn_s = best_of(1, lambda: learner.learn(-WEEK_SLOTS * SLOT_S, history))
    ahead_rps, forecast_s = best_of(20, lambda: learner.quantile_rps(0.0, 0.95))
    assert ahead_rps.shape == (HORIZON_SLOTS,)
    state = learner.state()
    state_bytes = sum(array.nbytes for array in state.values())
    other = RateForecast()
    _, restore_s = best_of(5, lambda: other.restore(state))
    assert (other.quantile_rps(0.0, 0.95) == ahead_rps).all()
    publish(
        "forecast_state",
        f"learning a week takes {learn_s:.2f} s, a forecast {1e3 * forecast_s:.2f} ms; "
        f"the state has {state_bytes / 1e6:.2f} MB",
        learn_week_s=learn_s,
        forecast_s=forecast_s,
        restore_s=restore_s,
        state_bytes=state_bytes,
    )


@cache
def counts(name, seed, level):
    """Requests per slot of the week."""
    found = np.zeros(WEEK_SLOTS)
    for chunk in built_in(name).chunks(seed=seed, rate_scale=level):
        found += np.bincount((chunk.arrival_s / SLOT_S).astype(int), minlength=WEEK_SLOTS)
    return found


def forecast(name, history, week):
    """Quantiles of counts from every slot on, shape (LEVELS, origins, HORIZON_SLOTS); processor time of each update."""
    learner = RateForecast(Calendar(FIRST_MONDAY_S[name]))
    if history is not None:
        learner.learn(-WEEK_SLOTS * SLOT_S, history)
    found, update_s = [], []
    for slot, requests in enumerate(week.tolist()):
        if slot <= WEEK_SLOTS - HORIZON_SLOTS:
            ahead_rps = learner.quantile_rps(slot * SLOT_S, np.array(LEVELS))
            found.append(np.full((len(LEVELS), HORIZON_SLOTS), np.nan) if ahead_rps is None else SLOT_S * ahead_rps)
        started_s = time.thread_time()
        learner.observe(slot * SLOT_S, requests)
        update_s.append(time.thread_time() - started_s)
    return np.array(found).transpose(1, 0, 2), np.array(update_s)


def constant(history, week, origins):
    """The last slot's count, with Poisson quantiles."""
    last = np.concatenate([history[-1:], week])[origins]
    return np.array([np.repeat(poisson.ppf(level, last)[:, None], HORIZON_SLOTS, axis=1) for level in LEVELS])


def last_week(history, week, origins):
    """The same slot of the week before, at the level of the last day, with the quantiles of that day's errors."""
    both = np.concatenate([history, week])
    found = []
    for origin in origins + WEEK_SLOTS:
        day = slice(origin - DAY_SLOTS, origin)
        before = slice(day.start - WEEK_SLOTS, day.stop - WEEK_SLOTS)
        # Within the first day, the week before the history is not known.
        since = max(0, before.start)
        level = both[since + WEEK_SLOTS : origin].sum() / both[since : before.stop].sum() if before.stop > since else 1
        past = both[since : before.stop]
        errors = both[since + WEEK_SLOTS : origin] / np.maximum(1, level * past) if len(past) > 12 else np.ones(1)
        ahead = level * both[origin - WEEK_SLOTS : origin - WEEK_SLOTS + HORIZON_SLOTS]
        found.append(np.quantile(errors, LEVELS)[:, None] * ahead)
    return np.array(found).transpose(1, 0, 2)


def kalman(history, week, origins):
    """Local linear trend, what the planner of NVIDIA Dynamo offers; its two noises fit the history best."""
    both = np.concatenate([history, week])
    grid = [(level, slope) for level in 10.0 ** np.arange(-3, 2) for slope in 10.0 ** np.arange(-6, 0)]
    best = min(grid, key=lambda noises: surprise(filtered(history, *noises)))
    states, covariances, _, variance = filtered(both, *best)
    found = []
    for origin in origins + WEEK_SLOTS:
        state, covariance = states[origin], covariances[origin]
        moments = []
        for _ in range(HORIZON_SLOTS):
            moments.append((state[0], variance * (covariance[0, 0] + 1)))
            state, covariance = TRANSITION @ state, TRANSITION @ covariance @ TRANSITION.T + np.diag(best)
        mean, spread = np.array(moments).T
        found.append(np.maximum(0, mean + ndtri(np.array(LEVELS))[:, None] * np.sqrt(spread)))
    return np.array(found).transpose(1, 0, 2)


TRANSITION = np.array([[1.0, 1.0], [0.0, 1.0]])


def filtered(values, level, slope):
    """Predicted states and covariances (in units of the noise of observations) before each value, and after all."""
    state, covariance = np.array([values[0], 0.0]), np.eye(2) * 10
    states, covariances, innovations = [], [], []
    for value in values:
        states.append(state)
        covariances.append(covariance)
        spread = covariance[0, 0] + 1
        innovations.append((value - state[0], spread))
        gain = covariance[:, 0] / spread
        state, covariance = state + gain * (value - state[0]), covariance - np.outer(gain, covariance[0])
        state, covariance = TRANSITION @ state, TRANSITION @ covariance @ TRANSITION.T + np.diag([level, slope])
    error, spread = np.array(innovations).T
    return [*states, state], [*covariances, covariance], innovations, float(np.mean(error**2 / spread))


def surprise(run):
    """-2 log likelihood per value, with the best noise of observations."""
    _, _, innovations, variance = run
    return np.log(variance) + np.mean(np.log([spread for _, spread in innovations]))


def scripted(peer, week, folder):
    command = [PEER_PYTHON, PEER_SCRIPT, peer, folder / "load.npz", folder / f"{peer}.npz"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=PATIENCE_S)
    except subprocess.TimeoutExpired:
        return {"not_run": f"took more than {PATIENCE_S:g} s"}
    if done.returncode:
        reason = done.stderr.strip().splitlines()[-1:] or [f"exit status {done.returncode}"]
        return {"not_run": reason[0]}
    found = np.load(folder / f"{peer}.npz")["quantiles"]
    if not np.isfinite(found).all():
        return {"not_run": "it forecast what is no number"}
    return json.loads(done.stdout.splitlines()[-1]) | judged(found, week, COMPARED)


def judged(quantiles, week, origins):
    """Coverage and losses over all leads of all origins; quantiles have shape (LEVELS, origins, HORIZON_SLOTS)."""
    came = week[origins[:, None] + np.arange(HORIZON_SLOTS)]
    low, middle, p95, high = quantiles
    assert quantiles.shape[1:] == came.shape
    assert np.isfinite(quantiles).all()
    inside = (low <= came) & (came <= high)
    return {
        "coverage": float(inside.mean()),
        "coverage_by_lead": inside.mean(axis=0).round(4).tolist(),
        "p95_coverage": float((came <= p95).mean()),
        "p95_pinball_rps": float(pinball(came, p95, 0.95).mean() / SLOT_S),
        "p95_pinball_rps_by_lead": (pinball(came, p95, 0.95).mean(axis=0) / SLOT_S).round(4).tolist(),
        "median_error_rps": float(np.abs(came - middle).mean() / SLOT_S),
    }


def pinball(came, quantile, level):
    return np.where(came > quantile, level * (came - quantile), (1 - level) * (quantile - came))

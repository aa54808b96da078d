"""Profile tables on paper: watts and capacities are straight lines."""

import numpy as np

from dynawatt.planning.curves import ShapeCurve
from dynawatt.simulation.policies.pools_profile import PoolProfile, ProfileTables
from dynawatt.workload.classes import CLASS_NAMES

RELEASED_W = 70.0
CLOCKS_MHZ = (1000, 2000)
MOST = 12


def index(name):
    return CLASS_NAMES.index(name)


def by_class(**values):
    found = np.zeros(len(CLASS_NAMES))
    for name, value in values.items():
        found[index(name)] = value
    return found


def profile(gpus, capacity, *, idle_w=100.0, watts_per_load=500.0, startup_s=60.0):
    """At half the clock it carries half as much, and a request takes 0.6 times the joules."""

    def curve(clocks_mhz):
        share = np.array([clock / CLOCKS_MHZ[-1] for clock in clocks_mhz])
        joules = np.where(share < 1, 0.6, 1.0) * watts_per_load
        loads = np.array([0.0, capacity])
        return ShapeCurve(
            name=f"TP{gpus}",
            gpus=gpus,
            startup_s=startup_s,
            starting_w=110.0 * gpus,
            parked_w=idle_w * gpus,
            released_w=RELEASED_W * gpus,
            clocks_mhz=clocks_mhz,
            capacities_rps=np.arange(MOST + 1)[:, None] * capacity * share,
            sizes=(1,),
            loads_rps=loads,
            watts=(idle_w * gpus + loads[:, None] * joules)[None],
        )

    return PoolProfile(gpus, curve(CLOCKS_MHZ), curve(CLOCKS_MHZ[-1:]), weight=1.0, mean_tokens=(500.0, 50.0))


def tables(pools, own, shared=None, urgent=()):
    """The work of a request is 1; classes named as urgent have a shorter objective."""
    objectives_s = np.full(len(CLASS_NAMES), 2.0)
    objectives_s[[index(name) for name in urgent]] = 0.25
    rows = [(1.0, own[-1])] if shared is None else shared
    return ProfileTables(pools, np.ones(len(CLASS_NAMES)), own, rows, objectives_s, tolerated=0.01)

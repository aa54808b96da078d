"""A curve that can be worked out by hand."""

import numpy as np

from dynawatt.planning.curves import ShapeCurve

RELEASED_W = 70.0


def linear(gpus=4, capacity_rps=10.0, most_replicas=6, name="tp4"):
    """A replica carries 5 req/s at 1000 MHz for 300 to 900 W, and 10 at 2000 MHz for 400 to 2000 W."""
    lower, higher = capacity_rps / 2, capacity_rps
    counts = np.arange(most_replicas + 1)[:, None]
    return ShapeCurve(
        name=name,
        gpus=gpus,
        startup_s=120.0,
        starting_w=100.0 * gpus,
        parked_w=75.0 * gpus,
        released_w=RELEASED_W * gpus,
        clocks_mhz=(1000, 2000),
        capacities_rps=counts * np.array([lower, higher]),
        sizes=(1,),
        loads_rps=np.array([0.0, lower or 0.5, higher or 1.0]),
        watts=np.array([[[300.0, 400.0], [900.0, 1200.0], [900.0, 2000.0]]]),
    )

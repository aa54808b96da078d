"""Forecasts requests per slot with statsmodels or statsforecast where they are installed, as a peer of ours would.

Arguments: method; .npz with `history` and `week` (counts per slot), `origins` (slots of the week), `horizon`; .npz to
write, with `quantiles` of shape (levels, origins, horizon) for `levels`. Prints versions and seconds as JSON.
"""

import json
import sys
import time
import warnings
from importlib.metadata import version

import numpy as np

DAY = 288
NORMAL = {0.025: -1.959964, 0.5: 0.0, 0.95: 1.644854, 0.975: 1.959964}


def arima(history, week, origins, horizon):
    """Order by AIC and parameters from the history, once; then the filter runs over the last three days."""
    from statsmodels.tsa.arima.model import ARIMA

    orders = [(1, 0, 0), (0, 1, 1), (1, 1, 1), (2, 1, 2), (3, 1, 0)]
    unit = history.mean()  # fits of counts in thousands may fail
    counts = np.concatenate([history, week]) / unit
    fits = [ARIMA(counts[len(history) - 3 * DAY : len(history)], order=order).fit() for order in orders]
    fitted = min((fit for fit in fits if np.isfinite(fit.aic)), key=lambda fit: fit.aic)
    for origin in origins + len(history):
        ahead = fitted.apply(counts[origin - 3 * DAY : origin]).get_forecast(horizon)
        yield unit * ahead.predicted_mean, unit * ahead.se_mean


def statsforecast(model):
    def run(history, week, origins, horizon):
        """Fitted anew at every origin on the last week."""
        counts = np.concatenate([history, week])
        for origin in origins + len(history):
            found = model().forecast(y=counts[origin - len(history) : origin], h=horizon, level=[90])
            yield found["mean"], (found["hi-90"] - found["mean"]) / NORMAL[0.95]

    return run


def auto_ets():
    from statsforecast.models import AutoETS

    return AutoETS()


def theta():
    from statsforecast.models import DynamicOptimizedTheta

    return DynamicOptimizedTheta(season_length=DAY)


def mstl():
    from statsforecast.models import MSTL, AutoETS

    return MSTL(season_length=DAY, trend_forecaster=AutoETS(model="ZZN"))


METHODS = {
    "arima": ("statsmodels", arima),
    "auto_ets": ("statsforecast", statsforecast(auto_ets)),
    "theta": ("statsforecast", statsforecast(theta)),
    "mstl": ("statsforecast", statsforecast(mstl)),
}


def main(method: str, source: str, target: str) -> None:
    package, forecast = METHODS[method]
    found = version(package)
    load = np.load(source)
    started_s = time.perf_counter()
    ahead = list(forecast(load["history"], load["week"], load["origins"], int(load["horizon"])))
    mean, deviation = np.array(ahead).transpose(1, 0, 2)
    quantiles = [np.maximum(0.0, mean + NORMAL[level] * deviation) for level in load["levels"].tolist()]
    np.savez(target, quantiles=np.array(quantiles))
    print(json.dumps({"package": f"{package} {found}", "forecast_s": (time.perf_counter() - started_s) / len(ahead)}))


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    main(*sys.argv[1:])

"""What services use, and what they would use without dynawatt."""

from collections.abc import Iterator, Sequence

from prometheus_client.core import Metric

from dynawatt.controller.metrics.figures import Shown
from dynawatt.controller.metrics.making import counter, gauge


def saving_families(services: Sequence[Shown]) -> Iterator[Metric]:
    """All families about energy and savings."""
    yield from _modelled(services)
    yield from _switchback(services)


def _modelled(services: Sequence[Shown]) -> Iterator[Metric]:
    charged = counter(
        "dynawatt_charged_energy_joules",
        "Energy that the service used, measured by the agents or modelled where they do not reach, with idle power of "
        "GPUs that a counterfactual would hold and no pod does.",
        "source",
    )
    instead = counter(
        "dynawatt_counterfactual_energy_joules",
        "Modelled energy of a fleet that stands still, under the same load and charged for the same GPUs: as found "
        "before the first change, or tuned-static, the fewest replicas that carry the highest load of a week.",
        "counterfactual",
    )
    saved = gauge(
        "dynawatt_saved_energy_joules",
        "Counterfactual less charged energy since the operator started, with the band that the model leaves; it falls "
        "while more is used than would have been.",
        "counterfactual",
        "bound",
    )
    overloaded = counter(
        "dynawatt_counterfactual_overloaded_seconds",
        "Time in which the counterfactual would have missed the SLO; its energy is too low then.",
        "counterfactual",
    )
    for shown in services:
        key, figures = shown.key, shown.figures
        for source, joules in figures.used_j.items():
            charged.add(key, joules, source)
        for name, saving in figures.savings.items():
            instead.add(key, saving.counterfactual_j, name)
            low_j, high_j = saving.interval_j
            for bound, value_j in (("low", low_j), ("expected", saving.saved_j), ("high", high_j)):
                saved.add(key, value_j, name, bound)
        for name, seconds in figures.overloaded_s.items():
            overloaded.add(key, seconds, name)
    yield from (samples.family for samples in (charged, instead, saved, overloaded))


def _switchback(services: Sequence[Shown]) -> Iterator[Metric]:
    modelled = gauge(
        "dynawatt_modelled_clock_saving_ratio",
        "Fraction of the energy that the knob Clock saves, by the model: what a switchback measures.",
    )
    measured = gauge(
        "dynawatt_switchback_saving_ratio",
        "The same as measured with the knob off for short random periods, with its 95 % interval; absent while too few "
        "periods were compared.",
        "bound",
    )
    pairs = gauge("dynawatt_switchback_pairs", "Pairs of periods, with the knob Clock on and off, that were compared.")
    for shown in services:
        key, figures = shown.key, shown.figures
        modelled.add(key, figures.clock_saving)
        pairs.add(key, figures.switchback_pairs)
        if (found := figures.switchback) is not None:
            for bound, ratio in (("low", found.low), ("expected", found.ratio), ("high", found.high)):
                measured.add(key, ratio, bound)
    yield from (samples.family for samples in (modelled, measured, pairs))

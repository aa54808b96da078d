"""Fleet energy: what is used, what it costs, and what it would have been without dynawatt."""

from typing import Final

from dynawatt.accounting.counterfactual import Counterfactual
from dynawatt.accounting.tariff import WORLD_CARBON_G_PER_KWH
from dynawatt.dashboards.expressions import SERVICE
from dynawatt.dashboards.page import LLMSERVICE, NAMESPACE, Factor, Page, Section
from dynawatt.dashboards.panels import (
    BAD,
    FAIR,
    GOOD,
    PLAIN,
    QUIET,
    Column,
    Look,
    Panel,
    Query,
    Steps,
    lines,
    number,
    rows,
)
from dynawatt.dashboards.recording import ENERGY_RATE_W, POWER_W, TOKEN_ENERGY_J, TOKEN_RATE
from dynawatt.dashboards.selecting import chosen
from dynawatt.quantities import J_PER_KWH

_SAVING: Final = Steps(BAD, ((0.0, FAIR), (0.05, GOOD)))
_CHARGED: Final = "dynawatt_charged_energy_joules_total"
_INSTEAD: Final = "dynawatt_counterfactual_energy_joules_total"
_RATE: Final = "$__rate_interval"
_SITE_KWH: Final = f"$pue / {J_PER_KWH:.0f}"
"""What turns joules of GPUs into kWh at the site's meter."""
_CARBON: Final = f"{_SITE_KWH} * $carbon"
_COST: Final = f"{_SITE_KWH} * $price"


def _risen(metric: str, matchers: str = "", *, by: str = "") -> str:
    """Increase of a counter of the chosen services in the time that is shown."""
    return f"sum{f' by ({by})' if by else ''} (increase({chosen(metric, matchers)}[$__range]))"


def _is(counterfactual: Counterfactual) -> str:
    return f'counterfactual="{counterfactual}"'


def _saved(counterfactual: Counterfactual, *, by: str = "") -> str:
    """Part of the counterfactual that was saved in the time that is shown."""
    instead = _risen(_INSTEAD, _is(counterfactual), by=by)
    return f"1 - {_risen(_CHARGED, by=by)} / ({instead} > 0)"


def _bound(counterfactual: Counterfactual, bound: str, *, by: str = "") -> str:
    """End of the band, or the middle, as a fraction of the counterfactual since the operator started."""
    over = f" by ({by})" if by else ""
    joules = chosen("dynawatt_saved_energy_joules", f'{_is(counterfactual)}, bound="{bound}"')
    return f"sum{over} ({joules}) / (sum{over} ({chosen(_INSTEAD, _is(counterfactual))}) > 0)"


def _band(title: str, text: str, counterfactual: Counterfactual) -> Panel:
    names = {"high": "upper end", "expected": "saved", "low": "lower end"}
    return lines(
        title,
        text,
        *(Query(_bound(counterfactual, bound), name) for bound, name in names.items()),
        unit="percentunit",
        steps=Steps(BAD, ((0.0, GOOD),)),
        looks=(
            Look("upper end", colour=GOOD, filled_to="lower end", thin=True),
            Look("lower end", colour=GOOD, thin=True),
            Look("saved", colour=GOOD),
        ),
        from_zero=False,
    )


_NOW: Final = (
    number(
        "Power of all GPUs",
        "Board power of every GPU that agents see, idle ones included.",
        Query("sum(dynawatt_gpu_power_watts)", "power"),
        unit="watt",
    ),
    number(
        "Energy used",
        "Of the chosen services in the time that is shown, at the site's meter: GPUs times $pue. Measured where agents "
        "are, modelled elsewhere; GPUs that only a counterfactual would hold are charged idle.",
        Query(f"{_risen(_CHARGED)} * {_SITE_KWH}", "energy", at_end=True),
        unit="kwatth",
    ),
    number(
        "Energy per generated token",
        "Joules of the GPUs that pods of the chosen services hold, over the tokens they generate, in five minutes. "
        "Rises when little is generated: pods that wait use power, too.",
        Query(f"sum({chosen(ENERGY_RATE_W)}) / (sum({chosen(TOKEN_RATE)}) > 0)", "per token"),
        unit="joule",
        decimals=2,
    ),
    number(
        "Saved against as-found",
        "Part of the energy of the fleet as it was found that was saved in the time that is shown. Below 0 (red) more "
        "was used; below 5 % (orange) it is little.",
        Query(_saved(Counterfactual.AS_FOUND), "saved", at_end=True),
        unit="percentunit",
        steps=_SAVING,
        decimals=1,
    ),
    number(
        "Cost, ${currency}",
        "Energy used times ${price} ${currency} per kWh: a constant factor, see the variables above.",
        Query(f"{_risen(_CHARGED)} * {_COST}", "cost", at_end=True),
        unit="none",
    ),
    number(
        "Carbon",
        "Energy used times ${carbon} g CO2e per kWh: a constant factor, without that of making the hardware.",
        Query(f"{_risen(_CHARGED)} * {_CARBON}", "carbon", at_end=True),
        unit="massg",
        decimals=1,
    ),
)
_USED: Final = (
    lines(
        "Power by service",
        "GPUs that pods of each service hold, and those that no pod of a service holds: idle, or of other workloads.",
        Query(chosen(POWER_W), "{{namespace}}/{{llmservice}}"),
        Query("clamp_min(sum(dynawatt_gpu_power_watts) - (sum(" + POWER_W + ") or vector(0)), 0)", "other and idle"),
        unit="watt",
        looks=(Look("other and idle", colour=QUIET),),
        stacked=True,
    ),
    lines(
        "Energy per generated token by service",
        "Joules over tokens of five minutes. The lower the better for one model; models of other sizes do not compare.",
        Query(chosen(TOKEN_ENERGY_J), "{{namespace}}/{{llmservice}}"),
        unit="joule",
    ),
    lines(
        "Power charged against what it would have been",
        "What the chosen services are charged, and two fleets that stand still under the same load and for the same "
        "GPUs: as-found, and tuned-static, the fewest replicas that carry the highest load of a week.",
        Query(f"sum(rate({chosen(_CHARGED)}[{_RATE}]))", "charged"),
        Query(f"sum by (counterfactual) (rate({chosen(_INSTEAD)}[{_RATE}]))", "{{counterfactual}}"),
        unit="watt",
        looks=(Look("as-found|tuned-static", dashed=True), Look("charged", colour=GOOD)),
    ),
    lines(
        "Where the charged energy is known from",
        "Measured by agents, or modelled where they do not reach. GPUs that nobody holds are always modelled.",
        Query(f"sum by (source) (rate({chosen(_CHARGED)}[{_RATE}]))", "{{source}}"),
        unit="watt",
        stacked=True,
    ),
)
_SAVINGS: Final = (
    _band(
        "Saved against as-found, with its band",
        "Since the operator started, as part of the energy that the fleet as it was found would have used. The band is "
        "what the model leaves uncertain; where all of it is above 0 (the dashed line), something was surely saved.",
        Counterfactual.AS_FOUND,
    ),
    _band(
        "Saved against tuned-static, with its band",
        "The same against the fewest replicas of the same size that carry the highest load of a week: what an expert "
        "would have set up knowing that load. Below 0 (the dashed line) that would have been better; in "
        "Recommend it is where more runs than is needed.",
        Counterfactual.TUNED_STATIC,
    ),
    lines(
        "Time in which a counterfactual would have missed the SLO",
        "Part of the time. Its energy is too low then, and what was saved against it is more than is shown; above 5 % "
        "(the dashed line) its comparison means little.",
        Query(
            f"sum by (counterfactual) (rate({chosen('dynawatt_counterfactual_overloaded_seconds_total')}[{_RATE}]))\n"
            f"/ on () group_left () count(count by ({SERVICE}) ({chosen(_CHARGED)}))",
            "{{counterfactual}}",
        ),
        unit="percentunit",
        steps=Steps(GOOD, ((0.05, FAIR),)),
    ),
    lines(
        "Saving of the clock alone: modelled, and measured",
        "Mean over the chosen services. Measured only where evaluation.switchbackPercent is above 0, by running at the "
        "default clock for short random periods; the model is right where it lies within the measured interval.",
        Query(f"avg({chosen('dynawatt_modelled_clock_saving_ratio')})", "modelled"),
        Query(f"avg by (bound) ({chosen('dynawatt_switchback_saving_ratio')})", "measured, {{bound}}"),
        unit="percentunit",
        looks=(
            Look("modelled", colour=PLAIN),
            Look("measured", colour=GOOD),
            Look("low|high", colour=GOOD, dashed=True),
        ),
        from_zero=False,
    ),
)
_TABLE: Final = rows(
    "Services",
    "Energy, cost and carbon in the time that is shown; the band of the saving is that since the operator started.",
    {"namespace": "Namespace", "llmservice": "LLMService"},
    Column("Energy", f"{_risen(_CHARGED, by=SERVICE)} * {_SITE_KWH}", "kwatth"),
    Column("Cost", f"{_risen(_CHARGED, by=SERVICE)} * {_COST}", "none"),
    Column("Carbon", f"{_risen(_CHARGED, by=SERVICE)} * {_CARBON}", "massg"),
    Column("J per token now", f"max by ({SERVICE}) ({chosen(TOKEN_ENERGY_J)})", "joule"),
    Column("Saved, as-found", _saved(Counterfactual.AS_FOUND, by=SERVICE), "percentunit", _SAVING),
    Column("At least", _bound(Counterfactual.AS_FOUND, "low", by=SERVICE), "percentunit", _SAVING),
    Column("At most", _bound(Counterfactual.AS_FOUND, "high", by=SERVICE), "percentunit", _SAVING),
    Column("Saved, tuned-static", _saved(Counterfactual.TUNED_STATIC, by=SERVICE), "percentunit", _SAVING),
)

ENERGY: Final = Page(
    "dynawatt-energy",
    "dynawatt / Fleet energy",
    "What LLM services use in joules, money and carbon, and what they would use without dynawatt.",
    (Section("Now", _NOW), Section("Use", _USED), Section("Savings", _SAVINGS), Section("By service", (_TABLE,))),
    (
        NAMESPACE,
        LLMSERVICE,
        Factor("price", "Price per kWh", "0.12", "Money per kWh of electricity, at all times."),
        Factor("currency", "Currency", "USD", "Of the price."),
        Factor("carbon", "g CO2e per kWh", f"{WORLD_CARBON_G_PER_KWH:.0f}", "Of the electricity; default: world mean."),
        Factor("pue", "Site overhead (PUE)", "1", "Energy of the site per energy of its GPUs, 1 or more."),
    ),
)

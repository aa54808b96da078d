from math import nan

import pytest

from dynawatt.dashboards.asking import filled, legend, questions, values_of
from dynawatt.dashboards.preview.charts import Line, state_timeline, time_series
from dynawatt.dashboards.preview.pages import page_html
from dynawatt.dashboards.preview.reading import Answers, Row, Span
from dynawatt.dashboards.preview.units import text_of

SPAN = Span(0.0, 60.0, 2.0)


@pytest.mark.parametrize(
    ("value", "unit", "decimals", "text"),
    [
        (2737.0, "watt", None, "2.74 kW"),
        (0.0, "watt", None, "0 W"),
        (1.98e9, "hertz", None, "1.98 GHz"),
        (0.034, "s", None, "34 ms"),
        (2.5, "s", None, "2.5 s"),
        (-0.118, "percentunit", 1, "-11.8 %"),
        (0.0249, "kwatth", None, "0.0249 kWh"),
        (12345.0, "none", None, "12,345"),
        (1.0, "bool_on_off", None, "on"),
        (nan, "watt", None, "no data"),
    ],
)
def test_values_have_units(value, unit, decimals, text):
    assert text_of(value, unit, decimals) == text


def test_variables_and_legends_are_filled_in():
    assert filled(
        'rate(x{a=~"$a"}[$__rate_interval]) * ${price}', {"a": ".*", "__rate_interval": "8s", "price": "2"}
    ) == ('rate(x{a=~".*"}[8s]) * 2')
    with pytest.raises(KeyError):
        filled("$unknown", {})
    assert (
        legend("{{namespace}}/{{ llmservice }} {{none}}", {"namespace": "prod", "llmservice": "llama"}) == "prod/llama"
    )


def panel_of(dashboards, name, title):
    [panel] = [each for each in dashboards[name]["panels"] if each["title"] == title and each["type"] != "row"]
    return panel


def test_a_band_is_filled_between_its_ends(dashboards):
    panel = panel_of(dashboards, "dynawatt-energy.json", "Saved against as-found, with its band")
    lines = [
        Line(name, [0.0, 60.0], [value, value])
        for name, value in (("upper end", 0.4), ("saved", 0.3), ("lower end", 0.2))
    ]
    chart = time_series(panel, lines, SPAN[:2])
    drawn = [(trace.name, trace.fill) for trace in chart.data]
    assert drawn == [("lower end", None), ("upper end", "tonexty"), ("saved", None)]
    [zero] = chart.layout.shapes
    assert zero.y0 == zero.y1 == 0


def test_states_have_the_colours_of_their_values(dashboards):
    panel = panel_of(dashboards, "dynawatt-nodes.json", "Health")
    chart = state_timeline(panel, [Line("a", [0.0, 2.0], [1, 1]), Line("b", [2.0], [0])], SPAN[:2])
    [rows] = chart.data
    assert list(rows.y) == ["b", "a"]
    assert [list(row) for row in rows.customdata] == [[None, "unhealthy"], ["healthy", "healthy"]]


def test_a_page_has_titles_values_and_what_is_missing(dashboards):
    dashboard = dashboards["dynawatt-energy.json"]
    empty = {panel["id"]: Answers((), ()) for panel in dashboard["panels"]}
    power = panel_of(dashboards, "dynawatt-energy.json", "Power of all GPUs")["id"]
    table = panel_of(dashboards, "dynawatt-energy.json", "Services")
    labels = {"namespace": "prod", "llmservice": "<llama>"}
    rows = [[Row(labels, 0.25)], *([] for _ in table["targets"][1:])]
    answers = empty | {power: Answers((Line("power", [0.0], [1500.0]),), ()), table["id"]: Answers((), rows)}
    page = page_html(dashboard, answers, SPAN, values=values_of(dashboard), others={"other.html": "Other"})
    assert "<h3>Cost, USD</h3>" in page
    assert "1.5 kW" in page
    assert "<td>prod</td><td>&lt;llama&gt;</td><td>0.25 kWh</td>" in page
    assert page.count("no data") == page.count("<h3>") - 2
    assert len(list(questions(dashboard, shown_s=60, rate_s=8))) > 20

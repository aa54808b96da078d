"""What a Prometheus has for the panels of a dashboard."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from dynawatt.adapters.prometheus import Prometheus
from dynawatt.dashboards.asking import Question, legend, questions
from dynawatt.dashboards.preview.charts import Line

_POINTS = 240


class Span(NamedTuple):
    """Time that is shown, in Unix seconds."""

    start_s: float
    end_s: float
    scrape_s: float
    """Between two scrapes."""

    @property
    def step_s(self) -> float:
        """Between two points."""
        return max(self.scrape_s, (self.end_s - self.start_s) / _POINTS)


class Row(NamedTuple):
    """One series of a table."""

    labels: Mapping[str, str]
    value: float


class Answers(NamedTuple):
    """Of all queries of a panel."""

    lines: Sequence[Line]
    """Of queries over time, and of those at the end as single points."""
    rows: Sequence[Sequence[Row]]
    """Of each query at the end of the time."""


async def read_panels(source: Prometheus, dashboard: Mapping[str, Any], span: Span) -> dict[int, Answers]:
    """Answers by the panel's id. Raises MetricsUnavailable for a query that Prometheus refuses."""
    rate_s = max(4 * span.scrape_s, span.step_s + span.scrape_s)
    asked = list(questions(dashboard, shown_s=span.end_s - span.start_s, rate_s=rate_s))
    answers = await asyncio.gather(*(_answer(source, question, span) for question in asked))
    found: dict[int, Answers] = {}
    for question, answer in zip(asked, answers, strict=True):
        before = found.get(question.panel["id"], Answers((), ()))
        found[question.panel["id"]] = Answers((*before.lines, *answer.lines), (*before.rows, *answer.rows))
    return found


async def _answer(source: Prometheus, question: Question, span: Span) -> Answers:
    if question.at_end:
        samples = await source.query(question.expression)
        lines = [Line(legend(question.legend, each.labels), (span.end_s,), (each.value,)) for each in samples]
        return Answers(lines, ([Row(each.labels, each.value) for each in samples],))
    series = await source.query_range(question.expression, span.start_s, span.end_s, span.step_s)
    return Answers(
        [
            Line(
                legend(question.legend, each.labels), [at for at, _ in each.values], [value for _, value in each.values]
            )
            for each in series
        ],
        (),
    )

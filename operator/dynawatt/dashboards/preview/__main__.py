"""``python -m dynawatt.dashboards.preview``: draw the dashboards from a Prometheus that has the recording rules."""

import asyncio
import json
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from plotly.offline import get_plotlyjs

from dynawatt.adapters.prometheus import Prometheus
from dynawatt.dashboards.asking import values_of
from dynawatt.dashboards.preview.pages import SCRIPT, page_html
from dynawatt.dashboards.preview.reading import Span, read_panels

_app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@_app.command()
def main(
    prometheus_url: Annotated[str, typer.Option(help="Whose data is shown.", metavar="URL")],
    output: Annotated[Path, typer.Option(help="Folder for the pages.", metavar="DIR")] = Path("build/dashboards"),
    minutes: Annotated[float, typer.Option(min=0.1, help="Until now.", metavar="N")] = 60.0,
    scrape_s: Annotated[float, typer.Option(min=0.1, help="Seconds between two scrapes.", metavar="N")] = 30.0,
    dashboards: Annotated[Path, typer.Option(help="Folder of the JSON.", metavar="DIR")] = Path("dashboards"),
) -> None:
    """Write one page for each dashboard."""
    now_s = time.time()
    found = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(dashboards.glob("*.json"))]
    pages = asyncio.run(_draw(prometheus_url, found, Span(now_s - 60 * minutes, now_s, scrape_s)))
    output.mkdir(parents=True, exist_ok=True)
    (output / SCRIPT).write_text(get_plotlyjs(), encoding="utf-8")
    for name, text in pages.items():
        (output / name).write_text(text, encoding="utf-8")
        typer.echo(f"wrote {output / name}")


async def _draw(url: str, dashboards: Sequence[Mapping[str, Any]], span: Span) -> dict[str, str]:
    """Pages by file name."""
    titles = {f"{dashboard['uid']}.html": dashboard["title"] for dashboard in dashboards}
    source = Prometheus(url, timeout_s=60.0)
    try:
        return {
            name: page_html(
                dashboard,
                await read_panels(source, dashboard, span),
                span,
                values=values_of(dashboard),
                others=titles,
            )
            for name, dashboard in zip(titles, dashboards, strict=True)
        }
    finally:
        await source.close()


if __name__ == "__main__":
    sys.exit(_app())

"""One page that holds all curves of a run, with nothing outside of it."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from html import escape

import matplotlib
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from vivit.monitor.charts import CHARTS, Chart
from vivit.monitor.curves import Curves
from vivit.monitor.observation import Observation
from vivit.monitor.summary import headline, rows
from vivit.plots.style import styled

SIZE = (6.0, 3.3)
"""Of a figure, in inches: text stays readable where the page is as narrow as a phone."""

SHOWN = 5
"""Errors that are listed."""

STYLE = """
* { box-sizing: border-box; }
body { margin: 0; background: #fff; color: #1d2329; line-height: 1.5;
  font-family: system-ui, -apple-system, "Segoe UI", "Helvetica Neue", Arial, sans-serif; }
main { max-width: 84rem; margin: 0 auto; padding: 1.2rem clamp(0.8rem, 3vw, 2.5rem) 3rem; }
h1 { font-size: 1.6rem; line-height: 1.25; margin: 0.4rem 0; overflow-wrap: anywhere; }
h2 { font-size: 1.1rem; margin: 0 0 0.3rem; }
p, li { overflow-wrap: anywhere; }
.soft, figcaption { color: #59636e; font-size: 0.92rem; }
.charts { display: grid; gap: 2rem 2.2rem; margin-top: 2rem;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 32rem), 1fr)); }
figure { margin: 0; }
figure img { display: block; width: 100%; height: auto; }
table { border-collapse: collapse; font-size: 0.92rem; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: 0.25rem 1rem 0.25rem 0; border-bottom: 1px solid #d5dae0; }
.number { text-align: right; white-space: nowrap; }
.errors { border-left: 4px solid #d9a300; background: #fff4d6; padding: 0.6rem 1rem;
  margin: 1.2rem 0; max-width: 80ch; }
.errors ul { margin: 0.3rem 0 0; padding-left: 1.2rem; }
"""


def page(name: str, observations: Sequence[Observation]) -> str:
    """The page of a run.

    Args:
        name: Of the run.
        observations: At least one, in ascending order of their steps.

    Returns:
        HTML that asks for nothing from elsewhere.
    """
    curves = Curves(observations)
    charts = "\n".join(_figure(chart, curves) for chart in CHARTS if _is_there(chart, curves))
    title = escape(f"Curvature of {name}")
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>{STYLE}</style>
</head>
<body>
<main>
<h1>{title}</h1>
<p class="soft">{escape(headline(curves))}</p>
{_errors(observations)}{_table(curves)}
<div class="charts">
{charts}
</div>
</main>
</body>
</html>
"""


def _is_there(chart: Chart, curves: Curves) -> bool:
    return not chart.names or any(curves.has(name) for name in chart.names)


def _errors(observations: Sequence[Observation]) -> str:
    items = [f"<li>Step {x.step}: {escape(x.error)}</li>\n" for x in observations if x.error]
    if not items:
        return ""
    shown = "".join(items[:SHOWN])
    more = f"<li>and {len(items) - SHOWN} more</li>\n" if len(items) > SHOWN else ""
    return f'<div class="errors">Not all could be observed:<ul>\n{shown}{more}</ul></div>\n'


def _table(curves: Curves) -> str:
    body = "".join(
        f'<tr><td>{escape(row.name)}</td><td class="number">{escape(row.latest)}</td>'
        f'<td class="number">{escape(row.range)}</td></tr>\n'
        for row in rows(curves)
    )
    head = '<tr><th></th><th class="number">latest</th><th class="number">range</th></tr>'
    return f"<table>\n<thead>{head}</thead>\n<tbody>\n{body}</tbody>\n</table>"


def _figure(chart: Chart, curves: Curves) -> str:
    alt = escape(f"{chart.title} over steps. {chart.words}", quote=True)
    source = base64.b64encode(svg(chart, curves)).decode()
    return (
        f"<figure>\n<h2>{escape(chart.title)}</h2>\n"
        f'<img src="data:image/svg+xml;base64,{source}" alt="{alt}">\n'
        f"<figcaption>{escape(chart.words)}</figcaption>\n</figure>"
    )


def svg(chart: Chart, curves: Curves) -> bytes:
    """A chart as SVG, the same bytes for the same curves.

    Args:
        chart: What to draw.
        curves: What was seen.
    """
    with styled(), matplotlib.rc_context({"svg.hashsalt": chart.title}):
        figure = Figure(figsize=SIZE, layout="constrained")
        axis = figure.subplots()
        chart.draw(axis, curves)
        axis.set_xlabel("step")
        axis.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
        buffer = io.BytesIO()
        figure.savefig(buffer, format="svg", dpi=150, metadata={"Date": None})
    return buffer.getvalue()

"""Panels and boards in this project's one style, by Grafana's foundation SDK."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from grafana_foundation_sdk.builders import common, dashboard, prometheus, stat, timeseries
from grafana_foundation_sdk.models.common import (
    BigValueGraphMode,
    LegendDisplayMode,
    LegendPlacement,
    StackingMode,
    TooltipDisplayMode,
)
from grafana_foundation_sdk.models.dashboard import (
    DashboardCursorSync,
    DashboardLinkType,
    DataSourceRef,
    VariableRefresh,
    VariableSort,
)

from tools.dashboards import names

TAG = "lfm2"
SOURCE = DataSourceRef(type_val="prometheus", uid="${datasource}")
PER = "[$__rate_interval]"
Panel = timeseries.Panel | stat.Panel


class Query(NamedTuple):
    """One of a panel's, with the name of each of its series."""

    expr: str
    legend: str = "__auto"


def graph(
    title: str,
    *queries: Query,
    unit: str = "short",
    about: str = "",
    stacked: bool = False,
    most: float | None = None,
    width: int = 8,
) -> timeseries.Panel:
    """Lines over time; `unit` is Grafana's name of one, `most` the end of the axis, `width` of 24 columns."""
    panel = (
        timeseries.Panel()
        .title(title)
        .description(about)
        .datasource(SOURCE)
        .unit(unit)
        .min(0)
        .height(8)
        .span(width)
        .fill_opacity(30 if stacked else 5)
        .stacking(common.StackingConfig().mode(StackingMode.NORMAL if stacked else StackingMode.NONE))
        .tooltip(common.VizTooltipOptions().mode(TooltipDisplayMode.MULTI))
        .legend(
            common.VizLegendOptions()
            .display_mode(LegendDisplayMode.LIST)
            .placement(LegendPlacement.BOTTOM)
            .show_legend(True)
        )
    )
    if most is not None:
        panel = panel.max(most)
    for index, query in enumerate(queries):
        panel = panel.with_target(_target(index, query))
    return panel


def number(title: str, expr: str, unit: str = "short", about: str = "", width: int = 4) -> stat.Panel:
    """The present value, large, over its course."""
    return (
        stat.Panel()
        .title(title)
        .description(about)
        .datasource(SOURCE)
        .unit(unit)
        .height(4)
        .span(width)
        .graph_mode(BigValueGraphMode.AREA)
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
        .with_target(_target(0, Query(expr)))
    )


def percentiles(title: str, histogram: str, match: str = "", about: str = "", width: int = 8) -> timeseries.Panel:
    """Of a histogram in seconds, whose name is without `_bucket`; `match` selects series."""
    queries = [
        Query(f"histogram_quantile({q}, sum by (le) (rate({histogram}_bucket{match}{PER})))", name)
        for name, q in names.QUANTILES.items()
    ]
    return graph(title, *queries, unit="s", about=about, width=width)


def choice(name: str, label: str, query: str) -> dashboard.QueryVariable:
    """A variable with the values of PromQL's `label_values(...)`."""
    return (
        dashboard.QueryVariable(name)
        .label(label)
        .datasource(SOURCE)
        .query(query)
        .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(VariableSort.ALPHABETICAL_ASC)
    )


def board(
    uid: str,
    title: str,
    about: str,
    sections: Mapping[str, Sequence[Panel]],
    variables: Sequence[dashboard.QueryVariable] = (),
) -> dashboard.Dashboard:
    """A dashboard with its panels by their headings, and links to the others."""
    built = (
        dashboard.Dashboard(title)
        .uid(uid)
        .description(about)
        .tags([TAG])
        .timezone("browser")
        .refresh("15s")
        .time("now-30m", "now")
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .link(
            dashboard.DashboardLink("LFM2")
            .type(DashboardLinkType.DASHBOARDS)
            .tags([TAG])
            .as_dropdown(True)
            .keep_time(True)
        )
        .with_variable(dashboard.DatasourceVariable("datasource").label("Prometheus").type("prometheus"))
    )
    for variable in variables:
        built = built.with_variable(variable)
    ids = itertools.count(1)
    for heading, panels in sections.items():
        built = built.with_row(dashboard.Row(heading).id(next(ids)))
        for panel in panels:
            built = built.with_panel(panel.id(next(ids)))
    return built


def _target(index: int, query: Query) -> prometheus.Dataquery:
    return (
        prometheus.Dataquery()
        .ref_id(chr(ord("A") + index))
        .expr(query.expr)
        .legend_format(query.legend)
        .range()
        .datasource(SOURCE)
    )

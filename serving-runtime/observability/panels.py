"""The three kinds of panel that the dashboards are made of."""

from __future__ import annotations

from grafana_foundation_sdk.builders import common, dashboard, prometheus, stat, timeseries
from grafana_foundation_sdk.models.common import LegendDisplayMode, LegendPlacement, TooltipDisplayMode
from grafana_foundation_sdk.models.dashboard import DashboardCursorSync, DataSourceRef, VariableRefresh, VariableSort

SOURCE = DataSourceRef(type_val="prometheus", uid="${datasource}")
_HEIGHT = 8


def graph(title: str, why: str, unit: str, *queries: tuple[str, str], width: int = 12) -> timeseries.Panel:
    """A value over time; ``queries`` are pairs of a query and how its lines are named."""
    panel = (
        timeseries.Panel()
        .title(title)
        .description(why)
        .datasource(SOURCE)
        .unit(unit)
        .min(0)
        .height(_HEIGHT)
        .span(width)
        .fill_opacity(8)
        .tooltip(common.VizTooltipOptions().mode(TooltipDisplayMode.MULTI))
        .legend(
            common.VizLegendOptions()
            .display_mode(LegendDisplayMode.TABLE)
            .placement(LegendPlacement.BOTTOM)
            .calcs(["lastNotNull", "max"])
            .show_legend(True)
        )
    )
    for index, (query, legend) in enumerate(queries):
        panel = panel.with_target(_query(query, legend, index))
    return panel


def number(title: str, why: str, unit: str, query: str, width: int = 4) -> stat.Panel:
    """What holds now."""
    return (
        stat.Panel()
        .title(title)
        .description(why)
        .datasource(SOURCE)
        .unit(unit)
        .height(4)
        .span(width)
        .with_target(_query(query, "", 0).instant())
    )


def board(title: str, uid: str, why: str, *variables: str, of: str = "") -> dashboard.Dashboard:
    """An empty dashboard with a data source to choose, and ``variables``, which are labels of the metric ``of``."""
    made = (
        dashboard.Dashboard(title)
        .uid(uid)
        .description(why)
        .tags(["tidewaiter"])
        .time("now-6h", "now")
        .refresh("1m")
        .timezone("browser")
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .with_variable(dashboard.DatasourceVariable("datasource").label("Data source").type("prometheus"))
    )
    chosen: list[str] = []
    for name in variables:
        inside = ",".join(f'{each}=~"${each}"' for each in chosen)
        made = made.with_variable(
            dashboard.QueryVariable(name)
            .label(name.capitalize())
            .datasource(SOURCE)
            .query(f"label_values({of}{{{inside}}}, {name})")
            .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
            .sort(VariableSort.ALPHABETICAL_ASC)
            .multi(True)
            .include_all(True)
            .all_value(".*")
        )
        chosen.append(name)
    return made


def row(title: str) -> dashboard.Row:
    """A heading."""
    return dashboard.Row(title)


def _query(query: str, legend: str, index: int) -> prometheus.Dataquery:
    return prometheus.Dataquery().expr(query).legend_format(legend or "__auto").ref_id(chr(ord("A") + index))

"""Plots of usage tables: what is in them, in which time, under which name."""

from __future__ import annotations

import html
from datetime import datetime
from pathlib import Path

import pytest
from commands import HOSTILE, WIDE, fill

from datamanager import DataManager, InvalidDataError
from datamanager.tables import printable

go = pytest.importorskip("plotly.graph_objects", reason="needs the library of the report extra")
NAMES = ["Qwen3-Coder-30B", WIDE, HOSTILE, "<b>100 %</b> $x$ %{y}"]


@pytest.fixture
def small(tmp_path: Path) -> Path:
    fill(tmp_path / "usage.db", NAMES)
    return tmp_path / "usage.db"


def test_over_time(small: Path) -> None:
    with DataManager(small) as dm:
        table = dm.usage(by="day", tz="Asia/Shanghai")
    figure = table.plot()
    assert isinstance(figure, go.Figure) and figure.layout.barmode == "stack"
    assert [html.unescape(trace.name) for trace in figure.data] == [printable(n) for n in NAMES]
    assert not {"<", "%", "$"} & {sign for trace in figure.data for sign in trace.name}
    for name, trace in zip(NAMES, figure.data, strict=True):
        rows = [row for row in table if row.model == name]
        assert list(trace.y) == [row.cost for row in rows]
        assert list(trace.width) == [1000 * (row.end - row.start) for row in rows]
        assert trace.x[0] == datetime(2025, 10, 9)  # a local midnight


def test_of_models(small: Path) -> None:
    with DataManager(small) as dm:
        (bars,) = dm.usage().plot("input_tokens").data
        assert list(bars.y) == [row.input_tokens for row in dm.usage()]


def test_rates_are_lines(small: Path) -> None:
    with DataManager(small) as dm:
        figure = dm.usage(by="hour").plot("cache_hit_share")
    assert {trace.type for trace in figure.data} == {"scatter"}
    assert figure.layout.yaxis.tickformat == ".0%"


def test_nothing_and_nonsense(small: Path) -> None:
    with DataManager(small) as dm:
        table = dm.usage()
    assert list(table[:0].plot().data[0].y) == []
    with pytest.raises(InvalidDataError, match="what must be one of requests, "):
        table.plot("model")


def test_requests_show_as_a_table(small: Path) -> None:
    with DataManager(small) as dm:
        requests = dm.get_model_requests(NAMES[0])
        text = requests._repr_html_()
    assert text.count("<tr>") == 1 + 40 and "160 more rows" in text
    assert text.count("<th ") == 6
    left, right = (f'<td style="text-align: {side}">' for side in ("left", "right"))
    assert f"{right}{requests[0].id}</td>{left}2025-10-11 " in text
    assert requests[:0]._repr_html_().count("<tr>") == 1


def test_it_is_what_notebooks_show(small: Path) -> None:
    with DataManager(small) as dm:
        text = dm.usage(by="day").plot().to_html(include_plotlyjs=False, full_html=False)
    assert "<script>alert" not in text and text.count("<script") == 1

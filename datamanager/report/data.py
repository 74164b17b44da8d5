"""What a report says, before it takes a form."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Any, NamedTuple

from datamanager._core import InvalidDataError
from datamanager.invoice import Invoice, applied, usage_and_invoice
from datamanager.performance import PerformanceTable
from datamanager.usage import UsageTable
from datamanager.windows import Zone

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from datamanager._core import ModelRunTime, Tariff
    from datamanager.manager import DataManager
    from datamanager.usage import Strategy

_DAY_S = 86400
# The longest window for each step, so that plots have some 400 points at most.
_STEPS = (
    ("minute", _DAY_S / 4),
    ("hour", 8 * _DAY_S),
    ("day", 400 * _DAY_S),
    ("week", 2800 * _DAY_S),
)
_MINUTE_S = 60
_STRIP_PARTS = 2000  # gaps between runs that are shorter than this part of the window do not show


class Strip(NamedTuple):
    """When the program (None) or a model ran, in spans that do not overlap."""

    model: str | None
    spans: list[tuple[float, float]]


class Report(NamedTuple):
    """Everything is of one window: ``start <= t < end``."""

    start: float
    end: float
    zone: Zone
    made: float
    step: str  # of ``series``: minute, hour, day, week or month
    models: UsageTable  # a row for each model
    series: UsageTable  # a row for each model and step
    speed: PerformanceTable  # a row for each model whose requests were timed
    heat: list[
        list[int]
    ]  # tokens by weekday (from Monday) and hour; empty where no hours are known
    strips: list[Strip]
    invoice: Invoice
    prices: list[tuple[str, Tariff]]  # those that held, by model and time


def _step(seconds: float) -> str:
    return next((step for step, longest in _STEPS if seconds <= longest), "month")


def _by_hour(dm: DataManager, names: Sequence[str], asked: dict[str, Any]) -> UsageTable | None:
    """None where hours cannot be told apart: pruned to sums of days, or too many of them."""
    try:
        return dm.usage(names, by="hour", **asked)
    except InvalidDataError:  # what is wrong beside that, is so in the questions that follow
        return None


def _series(
    dm: DataManager,
    names: Sequence[str],
    step: str,
    hours: UsageTable | None,
    asked: dict[str, Any],
) -> tuple[str, UsageTable]:
    """The usage by this step, or by the next that can be told apart, and which that is."""
    if step == "minute":
        try:
            return step, dm.usage(names, by=_MINUTE_S, **asked)
        except InvalidDataError:  # pruned to sums of hours
            step = "hour"
    if step == "hour":
        if hours is not None:
            return step, hours
        step = "day"
    return step, dm.usage(names, by=step, **asked)  # type: ignore[arg-type]


def _heat(zone: Zone, hours: UsageTable) -> list[list[int]]:
    heat = [[0] * 24 for _ in range(7)]
    places: dict[float, list[int]] = {}
    for row in hours:
        tokens = row.input_tokens + row.output_tokens
        if not tokens:
            continue
        start = row.start or 0.0
        if start not in places:
            local = zone.local(start)
            places[start] = [local.weekday(), local.hour]
        day, hour = places[start]
        heat[day][hour] += tokens
    return heat


def _spans(runs: Iterable[ModelRunTime], start: float, end: float) -> Iterator[tuple[float, float]]:
    """The runs within the window, with what overlaps or nearly touches as one."""
    nearly = (end - start) / _STRIP_PARTS
    begin = last = -math.inf
    for run in sorted(runs, key=lambda run: run.start_time):
        low, high = max(run.start_time, start), min(run.end_time, end)
        if low > last + nearly:
            if last > begin:
                yield begin, last
            begin, last = low, high
        last = max(last, high)
    if last > begin:
        yield begin, last


def _strips(dm: DataManager, names: Sequence[str], start: float, end: float) -> list[Strip]:
    found = [Strip(None, list(_spans(dm.get_program_runtime(start=start, end=end), start, end)))]
    for name in names:
        runs = dm.get_model_runtime(name, start=start, end=end)
        found.append(Strip(name, list(_spans(runs, start, end))))
    return [strip for strip in found if strip.spans]


def _speed(dm: DataManager, names: Sequence[str], start: float, end: float) -> PerformanceTable:
    return PerformanceTable(
        [
            row
            for row in dm.performance(names, start=start, end=end)
            if row.duration_max is not None or row.first_token_max is not None
        ]
    )


def _span(dm: DataManager, names: Sequence[str]) -> tuple[float, float]:
    """Where the data begin and end; of no data, now."""
    first, last = dm._time_span(names)
    begin = time.time() if first is None else first
    return begin, math.nextafter(begin if last is None else last, math.inf)


def gather(
    dm: DataManager,
    models: Sequence[str] | None = None,
    start: float | None = None,
    end: float | None = None,
    tz: str | None = None,
    strategy: Strategy | None = None,
) -> Report:
    """All that a report of these models (default: all) and this window says."""
    names = list(models or dm.get_models())
    first, last = _span(dm, names)
    begin = first if start is None else start
    until = max(last, math.nextafter(begin, math.inf)) if end is None else end
    zone = Zone(tz)
    asked: dict[str, Any] = {"start": begin, "end": until, "tz": zone.tz, "strategy": strategy}
    step = _step(until - begin)
    within = asked
    if step not in ("minute", "hour") and max(first, begin) < min(
        last, until
    ):  # there are more hours than data
        within = {**asked, "start": max(first, begin), "end": min(last, until)}
    hours = _by_hour(dm, names, within)
    whole = begin - begin % _MINUTE_S if start is None and step == "minute" else begin
    step, series = _series(dm, names, step, hours, {**asked, "start": whole})
    used, invoice = usage_and_invoice(
        dm, names, (begin, until), zone.tz, strategy, "historical", None
    )
    return Report(
        start=begin,
        end=until,
        zone=zone,
        made=time.time(),
        step=step,
        models=used,
        series=series,
        speed=_speed(dm, names, begin, until),
        heat=[] if hours is None else _heat(zone, hours),
        strips=_strips(dm, names, begin, until),
        invoice=invoice,
        prices=[
            (name, tariff)
            for name in names
            for tariff in applied(dm.get_price_history(name), (begin, until))
        ],
    )

"""Where windows, buckets and billing periods begin: all that has to know a calendar."""

from __future__ import annotations

import math
import time
from datetime import UTC, date, datetime, timedelta, tzinfo
from itertools import pairwise
from typing import TYPE_CHECKING

from datamanager._core import InvalidDataError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

BUCKETS_MAX = 1_000_000
UNITS = ("hour", "day", "week", "month")


class Zone:
    """Local time and back, in an IANA zone, a tzinfo, or that of the machine (None)."""

    def __init__(self, tz: str | tzinfo | None) -> None:
        if isinstance(tz, str):
            from zoneinfo import ZoneInfo

            try:
                tz = ZoneInfo(tz)
            except (KeyError, ValueError, OSError):
                raise InvalidDataError(f"tz must be the name of a time zone, not {tz!r}") from None
        elif tz is not None and not isinstance(tz, tzinfo):
            raise InvalidDataError(f"tz must be a name, a tzinfo or None, not {tz!r}")
        self.tz = tz

    def local(self, moment: float) -> datetime:
        """Wall-clock time of a moment, without a zone."""
        if self.tz is None:
            return datetime.fromtimestamp(moment)
        return datetime.fromtimestamp(moment, self.tz).replace(tzinfo=None)

    def moment(self, local: datetime) -> float:
        """The moment of a wall-clock time: the first of two; after a gap where there is none."""
        return local.replace(tzinfo=self.tz).timestamp()


def to_moment(value: float | datetime | None, field: str) -> float | None:
    """Epoch seconds of a number or a datetime (a naive one is local time)."""
    if value is None:
        return None
    if isinstance(value, datetime):
        return value.timestamp()
    try:
        seconds = float(value)
    except (TypeError, ValueError):
        seconds = math.nan
    if isinstance(value, (bool, str)) or not math.isfinite(seconds) or seconds < 0:
        raise InvalidDataError(f"{field} must be seconds since 1970 or a datetime, not {value!r}")
    return seconds


def window(
    minutes: float | None, start: float | datetime | None, end: float | datetime | None
) -> tuple[float | None, float | None]:
    """Start and end in epoch seconds; None where open."""
    first, last = to_moment(start, "start"), to_moment(end, "end")
    if not minutes:
        return first, last
    if first is not None or last is not None:
        raise InvalidDataError("minutes and start or end exclude each other")
    if not math.isfinite(minutes) or minutes < 0:
        raise InvalidDataError(f"minutes must be a finite number of at least 0, not {minutes!r}")
    now = time.time()
    return now - minutes * 60, now


# ---- calendar steps: the boundary at or before a time, and the one after a boundary ----


def _midnight(local: datetime) -> datetime:
    return local.replace(hour=0, minute=0, second=0, microsecond=0)


def _floor(local: datetime, unit: str) -> datetime:
    if unit == "week":
        return _midnight(local) - timedelta(days=local.weekday())
    return _midnight(local).replace(day=1) if unit == "month" else _midnight(local)


def _next_month(local: datetime, day: int) -> datetime:
    """The same day of the next month, or its last day."""
    year, month = divmod(local.year * 12 + local.month, 12)
    last = (date(year + (month == 11), (month + 1) % 12 + 1, 1) - timedelta(days=1)).day
    return local.replace(year=year, month=month + 1, day=min(day, last))


def _next(local: datetime, unit: str) -> datetime:
    if unit == "month":
        return _next_month(local, 1)
    return local + timedelta(days=7 if unit == "week" else 1)


def _calendar(zone: Zone, unit: str, begin: float) -> Iterator[float]:
    local = _floor(zone.local(begin), unit)
    while True:
        yield zone.moment(local)
        local = _next(local, unit)


def _hours(zone: Zone, begin: float) -> Iterator[float]:
    """Full hours of the wall clock; each lasts an hour, also where the clock is set back."""
    local = zone.local(begin)
    boundary = begin - local.minute * 60 - local.second - local.microsecond / 1e6
    boundary = float(round(boundary))
    while True:
        yield boundary
        local = zone.local(boundary + 3600)
        boundary += 3600 - local.minute * 60 - local.second
        if local.minute >= 30:  # the clock was set by half an hour
            boundary += 3600


def _steps(step: float, begin: float) -> Iterator[float]:
    for number in range(BUCKETS_MAX + 2):
        yield begin + number * step


def _clipped(boundaries: Iterator[float], start: float, end: float) -> list[float]:
    edges = [start]
    for boundary in boundaries:
        if boundary >= end:
            break
        if boundary > edges[-1]:
            edges.append(boundary)
        if len(edges) > BUCKETS_MAX:
            raise InvalidDataError(f"more than {BUCKETS_MAX} buckets were asked for")
    return [*edges, end]


def edges(
    by: str | float | None,
    buckets: int | None,
    tz: str | tzinfo | None,
    start: float | None,
    end: float | None,
    span: Callable[[], tuple[float | None, float | None]],
) -> list[float]:
    """The edges of the buckets; ``span`` tells where the data begin and end, if need be."""
    zone = Zone(tz)
    if by is not None and buckets is not None:
        raise InvalidDataError("by and buckets exclude each other")
    if by is None and buckets is None:
        return _ordered(-math.inf if start is None else start, math.inf if end is None else end)
    begin = start
    if start is None or end is None:
        first, last = span()
        if first is None or last is None:
            first = last = time.time() if start is None else start
        begin = first if start is None else start
        # The window is half-open: the last record must be inside.
        end = math.nextafter(max(last, begin), math.inf) if end is None else end
        if start is None and by is not None:
            begin = start = next(_boundaries(by, zone, begin, aligned=True))
    assert begin is not None and end is not None
    _ordered(begin, end)
    if buckets is not None:
        return _equal(buckets, begin, end)
    assert by is not None
    return _clipped(_boundaries(by, zone, begin, aligned=False), begin, end)


def _ordered(start: float, end: float) -> list[float]:
    if not start < end:
        raise InvalidDataError(f"end {end!r} must be after start {start!r}")
    return [start, end]


def _equal(buckets: int, start: float, end: float) -> list[float]:
    if not isinstance(buckets, int) or isinstance(buckets, bool) or not 0 < buckets <= BUCKETS_MAX:
        raise InvalidDataError(
            f"buckets must be a whole number from 1 to {BUCKETS_MAX}, not {buckets!r}"
        )
    width = (end - start) / buckets
    cut = [*(start + width * number for number in range(buckets)), end]
    if any(low >= high for low, high in pairwise(cut)):
        raise InvalidDataError(f"{buckets} buckets are too many for {end - start!r} seconds")
    return cut


def _boundaries(by: str | float, zone: Zone, begin: float, *, aligned: bool) -> Iterator[float]:
    if by == "hour":
        return _hours(zone, begin)
    if by in UNITS:
        return _calendar(zone, str(by), begin)
    try:
        step = math.nan if isinstance(by, (bool, str)) else float(by)
    except (TypeError, ValueError):
        step = math.nan
    if not math.isfinite(step) or step <= 0:
        raise InvalidDataError(
            f"by must be 'hour', 'day', 'week', 'month' or seconds above 0, not {by!r}"
        )
    return _steps(step, math.floor(begin / step) * step if aligned else begin)


def billing_periods(
    tz: str | tzinfo | None, anchor: date | None, first: float, last: float
) -> list[float]:
    """Where months begin, from the one of ``first`` to that of ``last``: calendar months, or on the
    day of ``anchor`` (the last day of shorter months)."""
    zone = Zone(tz)
    day = 1 if anchor is None else anchor.day
    local = zone.local(first)
    at = _next_month(_midnight(local) - timedelta(days=62), day)
    begins: list[float] = []
    while True:
        moment = zone.moment(at)
        if moment > last:
            return begins
        if moment <= first:
            begins.clear()
        begins.append(moment)
        at = _next_month(at, day)


def utc_text(moment: float) -> str:
    """ISO 8601 to the second, in UTC."""
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

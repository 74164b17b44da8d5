"""Where windows, buckets and billing periods begin: all that has to know a calendar."""

from __future__ import annotations

import math
import time
from datetime import UTC, date, datetime, timedelta, tzinfo
from itertools import count, islice, pairwise
from typing import TYPE_CHECKING

from datamanager._core import InvalidDataError
from datamanager.tables import clock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

BUCKETS_MAX = 1_000_000
UNITS = ("hour", "day", "week", "month")
DAY_S, HOUR_S = 86400.0, 3600.0
CALENDAR_END_S = 253_402_300_800.0  # of the year 9999


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
        """Wall-clock time of a moment, down to whole seconds, without a zone."""
        try:
            return datetime.fromtimestamp(math.floor(moment), self.tz).replace(tzinfo=None)
        except (OverflowError, ValueError, OSError):
            raise InvalidDataError(f"there is no date at {moment!r} seconds since 1970") from None

    def moment(self, local: datetime) -> float:
        """The moment of a wall-clock time: the first of two; after a gap where there is none."""
        return seconds_of(local.replace(tzinfo=self.tz, fold=0), "the time")


def seconds_of(moment: datetime, field: str) -> float:
    """Epoch seconds; a naive one is local time, for which Python looks at the days around it."""
    try:
        return moment.timestamp()
    except (OverflowError, ValueError, OSError):
        raise InvalidDataError(f"{field} is too near an end of the calendar: {moment!r}") from None


def real(value: object) -> float:
    """A number as a float; NaN for what is none."""
    if isinstance(value, (bool, str)):
        return math.nan
    try:
        return float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        return math.nan


def length(value: object, field: str) -> float:
    """How long a window is, in whatever unit; 0: all time."""
    number = real(value)
    if not math.isfinite(number) or number < 0:
        raise InvalidDataError(f"{field} must be a finite number of at least 0, not {value!r}")
    return number


def to_moment(value: float | datetime | None, field: str) -> float | None:
    """Epoch seconds of a number or a datetime (a naive one is local time)."""
    if value is None:
        return None
    if isinstance(value, datetime):
        return seconds_of(value, field)
    seconds = real(value)
    if not math.isfinite(seconds) or seconds < 0:
        raise InvalidDataError(f"{field} must be seconds since 1970 or a datetime, not {value!r}")
    return seconds


def window(
    minutes: float | None,
    start: float | datetime | None,
    end: float | datetime | None,
    *,
    until_now: bool = False,
) -> tuple[float | None, float | None]:
    """Start and end in epoch seconds; None where open. The last minutes are open at their end, as
    those of get_model_requests are: a clock elsewhere may be ahead. What is cut into buckets, or
    divided by their length, has them end ``until_now``."""
    first, last = to_moment(start, "start"), to_moment(end, "end")
    span_s = 0.0 if minutes is None else length(minutes, "minutes") * 60
    if span_s == 0:
        if first is not None and last is not None:
            _ordered(first, last)
        return first, last
    if first is not None or last is not None:
        raise InvalidDataError("minutes and start or end exclude each other")
    now = time.time()
    # The window is half-open, and a clock may stand still for some milliseconds.
    return now - span_s, math.nextafter(now, math.inf) if until_now else None


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
        try:
            local = _next(local, unit)
        except (OverflowError, ValueError):  # the calendar ends with the year 9999
            return


def _hours(zone: Zone, begin: float) -> Iterator[float]:
    boundary = zone.moment(_midnight(zone.local(begin)))
    while True:
        following = _day_of_hours(zone, boundary) or [_next_hour(zone, boundary)]
        for after in following:
            if after > begin:
                yield boundary
            boundary = after


def _day_of_hours(zone: Zone, moment: float) -> list[float]:
    """The next full hours, of a day on which the clock is not set; none where it may be. They are
    counted, since half a century of hours takes seconds to ask for one by one. (No zone has ever
    set its clock and set it back within a day.)"""
    local = zone.local(moment)
    if local.minute != 0 or local.second != 0 or local.year == 9999:
        return []
    if zone.local(moment + DAY_S) - local != timedelta(days=1):
        return []
    return [moment + HOUR_S * number for number in range(1, 25)]


def _next_hour(zone: Zone, moment: float) -> float:
    """The next full hour of the wall clock, or when it is set to another hour before that."""
    local = zone.local(moment)
    full = moment + 3600 - local.minute * 60 - local.second

    def as_before(then: float) -> bool:
        return (zone.local(then) - local).total_seconds() == then - moment

    if as_before(full):
        return full
    low, high = moment, full
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if as_before(middle) else (low, middle)
    found = zone.local(high)
    if found.minute == found.second == 0 or found.hour != local.hour:
        return high
    return _next_hour(zone, high)  # set back within the hour, which is then longer


def _steps(step: float, begin: float) -> Iterator[float]:
    return (begin + number * step for number in count())


def _clipped(boundaries: Iterator[float], start: float, end: float) -> list[float]:
    edges = [start]
    for boundary in islice(boundaries, BUCKETS_MAX + 1):
        if boundary >= end:
            return [*edges, end]
        if boundary > edges[-1]:
            edges.append(boundary)
    if len(edges) < BUCKETS_MAX and next(boundaries, None) is None:
        return [*edges, end]
    raise _too_many(start, end)


def _refuse_too_many(by: str | float, zone: Zone, start: float, end: float) -> None:
    """At once: to count them costs seconds, and one odd time among the data is enough for that.
    Clocks that are set do not make hours a second longer than they are, by and large."""
    if by not in ("hour", "day"):
        return
    zone.local(start)  # which must be a date
    step = (HOUR_S if by == "hour" else DAY_S) + 1
    if (min(end, CALENDAR_END_S) - start) / step > BUCKETS_MAX:
        raise _too_many(start, end)


def _too_many(start: float, end: float) -> InvalidDataError:
    return InvalidDataError(
        f"more than {BUCKETS_MAX} buckets were asked for, from {clock(start)} to {clock(end)}:"
        " a shorter window or longer steps have fewer"
    )


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
        if start is None and end is not None:
            begin = min(begin, end - 1)  # a window before all data is empty, but there
        # The window is half-open: the last record must be inside.
        if end is None:
            end = math.nextafter(max(last, begin), math.inf)
            if buckets is not None:
                end = max(end, begin + 1)  # or they would be too many for one record
        if start is None and by is not None:
            begin = start = next(_boundaries(by, zone, begin, aligned=True))
    assert begin is not None and end is not None
    _ordered(begin, end)
    if buckets is not None:
        return _equal(buckets, begin, end)
    assert by is not None
    _refuse_too_many(by, zone, begin, end)
    return _clipped(_boundaries(by, zone, begin, aligned=False), begin, end)


def _ordered(start: float, end: float) -> list[float]:
    if not start < end:
        raise InvalidDataError(f"end {end!r} must be after start {start!r}")
    return [start, end]


def _equal(buckets: int, start: float, end: float) -> list[float]:
    whole = hasattr(buckets, "__index__") and not isinstance(buckets, bool)
    if not whole or not 0 < buckets <= BUCKETS_MAX:
        raise InvalidDataError(
            f"buckets must be a whole number from 1 to {BUCKETS_MAX}, not {buckets!r}"
        )
    buckets = int(buckets)  # NumPy's are none
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
    step = real(by)
    if not math.isfinite(step) or step <= 0:
        raise InvalidDataError(
            f"by must be 'hour', 'day', 'week', 'month' or seconds above 0, not {by!r}"
        )
    if aligned:  # the quotient may have been rounded up, and of a tiny step it is infinite
        floor = math.floor(begin / step) * step if math.isfinite(begin / step) else begin
        begin = floor if floor <= begin else floor - step
    return _steps(step, begin)


def anchor_day(anchor: date | None) -> int:
    """The day of a month on which billing periods begin."""
    if anchor is not None and not isinstance(anchor, date):
        raise InvalidDataError(f"billing_anchor must be a date or None, not {anchor!r}")
    return 1 if anchor is None else anchor.day


def billing_periods(
    tz: str | tzinfo | None, anchor: date | None, first: float, last: float
) -> list[float]:
    """Where months begin, from the one of ``first`` to that of ``last``: calendar months, or on the
    day of ``anchor`` (the last day of shorter months)."""
    zone, day = Zone(tz), anchor_day(anchor)
    first, last = max(first, 0.0), max(last, 0.0)  # there is no request before 1970
    at = _next_month(_midnight(zone.local(first)) - timedelta(days=62), day)
    begins: list[float] = []
    while (moment := zone.moment(at)) <= last:
        if moment <= first:
            begins.clear()
        begins.append(moment)
        try:
            at = _next_month(at, day)
        except ValueError:  # the calendar ends with the year 9999
            break
    return begins


def utc_text(moment: float) -> str:
    """ISO 8601 to the second, in UTC."""
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

"""Times as people write them."""

from __future__ import annotations

import re
import time
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from datamanager.cli.errors import UsageError
from datamanager.windows import Zone

if TYPE_CHECKING:
    from argparse import Namespace

_UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}  # by how they begin
_AGO = re.compile(
    r"(\d+(?:\.\d+)?) ?"
    r"(s(?:ec(?:ond)?s?)?|m(?:in(?:ute)?s?)?|h(?:ours?|rs?)?|d(?:ays?)?|w(?:eeks?)?)(?: ago)?",
    re.I,
)
_MONTHS_AGO = re.compile(r"(\d+) ?(mo(?:nths?)?|y(?:ears?|rs?)?)(?: ago)?", re.I)
_DATE = re.compile(r"(\d{4})(?:-(\d\d?)(?:-(\d\d?))?)?")
_WORDS = ("now", "today", "yesterday")
_HELP = "like 7d, '3 months', 2026-10-05, 2026-10, 2026-10-05T12:30, today or now"


def _after(local: datetime, months: int) -> datetime:
    """The first of the month so many months later."""
    year, month = divmod(local.year * 12 + local.month - 1 + months, 12)
    return local.replace(year=year, month=month + 1, day=1)


def _months_ago(local: datetime, months: int) -> datetime:
    """The same day of an earlier month, or its last where it is shorter."""
    first = _after(local, -months)
    last = _after(first, 1) - timedelta(days=1)
    return first.replace(day=min(local.day, last.day))


def _date(found: re.Match[str]) -> tuple[datetime, datetime]:
    """The first and the first no more of the year, month or day."""
    year, month, day = found.groups()
    begin = datetime(int(year), int(month or 1), int(day or 1))
    if day is not None:
        return begin, begin + timedelta(days=1)
    return begin, _after(begin, 12 if month is None else 1)


def _time(text: str, zone: Zone) -> float:
    if len(text) <= len("2026-10-05"):  # 20261005, 2026-W41: a day or week that would be an instant
        raise ValueError
    moment = datetime.fromisoformat(text)
    return moment.timestamp() if moment.tzinfo is not None else zone.moment(moment)


def period(text: str, zone: Zone) -> tuple[float, float]:
    """Where the time that ``text`` names begins and ends: a day, a month, or an instant twice."""
    now = time.time()
    if found := _AGO.fullmatch(text):
        return (now - float(found[1]) * _UNITS_S[found[2][0].lower()],) * 2
    try:
        if found := _MONTHS_AGO.fullmatch(text):
            months = int(found[1]) * (1 if found[2][0] in "mM" else 12)
            return (zone.moment(_months_ago(zone.local(now), months)),) * 2
        if text.startswith("@"):
            return (float(text[1:]),) * 2
        if text == "now":
            return now, now
        if text in _WORDS:
            today = zone.local(now).replace(hour=0, minute=0, second=0, microsecond=0)
            begin = today - timedelta(days=_WORDS.index(text) - 1)
            return zone.moment(begin), zone.moment(begin + timedelta(days=1))
        if found := _DATE.fullmatch(text):
            begin, end = _date(found)
            return zone.moment(begin), zone.moment(end)
        return (_time(text, zone),) * 2
    except (ValueError, OverflowError, OSError):
        raise UsageError(f"{text!r} is not a time {_HELP}") from None


def moment(text: str, tz: str | None) -> float:
    """Where the time that ``text`` names begins."""
    return period(text, Zone(tz))[0]


def _month(text: str, zone: Zone) -> tuple[float, float]:
    if text in ("this", "last"):
        local = zone.local(time.time()).replace(hour=0, minute=0, second=0, microsecond=0)
        begin = _after(local, 0 if text == "this" else -1)
        return zone.moment(begin), zone.moment(_after(begin, 1))
    if not re.fullmatch(r"\d{4}-\d\d?", text):
        raise UsageError(f"--month wants YYYY-MM, 'this' or 'last', not {text!r}")
    return period(text, zone)


def window(options: Namespace) -> tuple[float | None, float | None]:
    """Start and end of ``add_window``'s options; None where open."""
    zone = Zone(options.tz)
    if options.month is not None:
        if options.since is not None or options.until is not None:
            raise UsageError("--month excludes --since and --until")
        return _month(options.month, zone)
    start = None if options.since is None else period(options.since, zone)[0]
    end = None if options.until is None else period(options.until, zone)[1]
    if start is not None and end is not None and not start < end:
        raise UsageError(f"--until {options.until!r} must be after --since {options.since!r}")
    return start, end

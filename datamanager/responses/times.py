"""When a response says it was made, and how long it took."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from datetime import datetime

from datamanager._core import InvalidDataError
from datamanager.responses.facts import Facts, at, shown
from datamanager.windows import real

_YEAR_10000 = 253_402_300_800  # in the core, too, no time is accepted from then on


def _number(facts: Facts, path: str) -> float | None:
    value = at(facts, path)
    number = 0.0 if value is None else real(value)
    if not math.isfinite(number) or number < 0:
        raise InvalidDataError(f"{path} must be a finite number of at least 0, not {shown(value)}")
    return None if value is None else number


def _in_parts(
    facts: Facts, until_first: Iterable[str], after_first: str
) -> tuple[float | None, float | None]:
    """Seconds as a whole and to the first token, from milliseconds up to it and after it."""
    first = 0.0
    for path in until_first:
        if (part := _number(facts, path)) is None:
            return None, None
        first += part / 1e3
    after = _number(facts, after_first)
    return None if after is None else first + after / 1e3, first


def _in_whole(facts: Facts, whole: str, after_first: str) -> tuple[float | None, float | None]:
    """The same, from nanoseconds of all and of what came after the first token."""
    total, after = _number(facts, whole), _number(facts, after_first)
    if total is None or after is None:
        return None if total is None else total / 1e9, None
    if after > total:
        raise InvalidDataError(f"{after_first} is {after:.0f}, but {whole} is {total:.0f}")
    return total / 1e9, (total - after) / 1e9


def times(facts: Facts) -> tuple[float | None, float | None]:
    """Seconds as a whole and to the first token, as far as the server tells."""
    if "timings" in facts:  # llama.cpp
        return _in_parts(facts, ["timings.prompt_ms"], "timings.predicted_ms")
    if isinstance(facts.get("metrics"), Mapping):  # vLLM, started with --enable-per-request-metrics
        until_first = ["metrics.queue_time_ms", "metrics.time_to_first_token_ms"]
        return _in_parts(facts, until_first, "metrics.generation_time_ms")
    return _in_whole(facts, "total_duration", "eval_duration")  # Ollama


def timestamp_of(facts: Facts) -> float | None:
    text = facts.get("created_at")
    if not isinstance(text, str):
        path = "created" if text is None else "created_at"
        made = _number(facts, path)
        if made is not None and made >= _YEAR_10000:
            raise InvalidDataError(
                f"{path} must be seconds since 1970 and before the year 10000, not {made!r}"
            )
        return made
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None or moment.timestamp() < 0:
        raise InvalidDataError(
            f"created_at must be a time since 1970 with its offset from UTC, not {shown(text)}"
        )
    return moment.timestamp()

"""From what a caller has of a response to the facts in it."""

from __future__ import annotations

import json
import re
import reprlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeAlias

from datamanager._core import InvalidDataError

Facts: TypeAlias = Mapping[str, Any]


def shown(value: object) -> str:
    try:
        return reprlib.repr(value)  # short, however deep it is
    except ValueError:
        return "a number of too many digits"


def _loads(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise InvalidDataError(f"the response is not JSON: {shown(text)}") from None


def _lines(text: str) -> Iterator[str]:
    """The documents in server-sent events or lines of JSON: every server puts each on one line."""
    for line in re.split(r"[\r\n]+", text):
        data = line.removeprefix("data:").strip()
        if data != "[DONE]" and (line.startswith("data:") or data.startswith("{")):
            yield data


def _events_in(text: str) -> Iterator[Any]:
    try:
        document = json.loads(text.removeprefix("\ufeff"))
    except (ValueError, RecursionError):
        yield from map(_loads, _lines(text))
    else:
        yield from document if isinstance(document, list) else [document]


def _events(obj: object) -> Iterator[Any]:
    if isinstance(obj, Mapping) or hasattr(obj, "model_dump"):
        yield obj
    elif isinstance(obj, str):
        yield from _events_in(obj)
    elif isinstance(obj, (bytes, bytearray, memoryview)):
        # Only numbers are read, so text that a server cut within a character does no harm.
        yield from _events_in(bytes(obj).decode(errors="replace"))
    elif isinstance(obj, Iterable):
        for item in obj:
            yield from _events(item) if isinstance(item, (str, bytes)) else [item]
    else:
        raise InvalidDataError(
            f"a response must be a dict, JSON or the events of a stream, not {shown(obj)}"
        )


def _without_null(facts: Facts) -> dict[str, Any]:
    return {name: value for name, value in facts.items() if value is not None}


def _opened(event: object) -> dict[str, Any]:
    """The response that an event holds, or the event itself; without what is null."""
    if hasattr(event, "model_dump"):  # pydantic's, as client libraries give it
        event = event.model_dump()
    if not isinstance(event, Mapping):
        raise InvalidDataError(f"a response must be a JSON object, not {shown(event)}")
    facts = dict(event)
    if isinstance(event.get("response"), Mapping):  # response.completed and its like
        facts.update(event["response"])
    elif event.get("type") == "message_start" and isinstance(event.get("message"), Mapping):
        facts.update(event["message"])
        if isinstance(facts.get("usage"), Mapping):  # its output is what there was by then
            facts["usage"] = {**facts["usage"], "output_tokens": None}
    return _without_null(facts)


def facts_of(obj: object) -> Facts:
    """All events over each other: counts are cumulative, so the last of each holds."""
    facts: dict[str, Any] = {}
    finished, named = 0, set()
    for event in map(_opened, _events(obj)):
        finished += event.get("done") is True or event.get("stop") is True
        if event.keys() & {"usage", "timings"} and isinstance(event.get("id"), str):
            named.add(event["id"])
        usage, earlier = event.get("usage"), facts.get("usage")
        if isinstance(usage, Mapping) and isinstance(earlier, Mapping):
            event["usage"] = {**earlier, **_without_null(usage)}
        facts.update(event)
    if not facts:
        raise InvalidDataError("there is no JSON object in the response")
    if max(finished, len(named)) > 1:
        raise InvalidDataError(f"{max(finished, len(named))} responses were given as one")
    return facts


def at(facts: Facts, path: str) -> Any:
    """The value under a dotted path; None where there is none."""
    value: Any = facts
    names = path.split(".")
    for depth, name in enumerate(names):
        if value is None:
            return None
        if not isinstance(value, Mapping):
            field = ".".join(names[:depth])
            raise InvalidDataError(f"{field} must be a JSON object, not {shown(value)}")
        value = value.get(name)
    return value

"""What a request used, out of the response of the server that answered it.

A response is a mapping, JSON text, or a stream of either: its events are laid over each other, the
later over the earlier, so that what remains is what the stream has said in the end. Which server it
came from shows in its fields; see the functions at the end for where each format is described.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from datamanager._core import InvalidDataError

__all__ = ["ResponseUsage", "usage_from_response"]

TOKENS_MAX = 2**53
NOTHING = (
    "the response does not say what was used: there is no usage, timings or eval_count in it "
    '(streams of OpenAI\'s kind need stream_options={"include_usage": true})'
)
Fields = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ResponseUsage:
    """What a response says about its request.

    ``timestamp`` is when it was made (epoch seconds), ``duration`` and ``first_token`` are seconds
    of the server's work; each is None where the response does not say.
    """

    timestamp: float | None
    input_tokens: int
    output_tokens: int
    cache_n: int
    prompt_n: int
    duration: float | None = None
    first_token: float | None = None


def usage_from_response(obj: object) -> ResponseUsage:
    """Read a finished response: of OpenAI's kinds, Anthropic, llama.cpp, Ollama or vLLM.

    ``obj`` is a mapping, JSON text or bytes, or the events of a stream: such things one after the
    other, or the text that was sent (server-sent events, or a JSON value in each line). Of a stream
    the last events are enough, of Anthropic's also the first.

    Raises InvalidDataError where it does not say what was used, is not finished, or contradicts
    itself. Nothing is guessed.
    """
    response = _merged(_events(obj))
    for reader in (_unfinished, _openai, _anthropic, _openai_responses, _llama_cpp, _ollama):
        found = reader(response)
        if found is not None:
            return found
    raise InvalidDataError(NOTHING)


# ---- events ----

FINISHED = ("response.completed", "response.incomplete", "response.failed")
GOING_ON = ("response.", "message_start", "content_block", "ping", "error")


def _events(obj: object) -> Iterator[Fields]:
    if hasattr(obj, "model_dump"):  # of the client libraries, by pydantic
        obj = obj.model_dump()
    if isinstance(obj, Mapping):
        yield obj
    elif isinstance(obj, (str, bytes, bytearray)):
        yield from _text_events(obj)
    elif isinstance(obj, Iterable):
        for event in obj:
            if isinstance(event, Iterable) and not isinstance(event, (list, tuple)):
                yield from _events(event)
            else:
                raise _wrong("an event", "a mapping or text", event)
    else:
        raise _wrong("a response", "a mapping, text, or events of these", obj)


def _text_events(text: str | bytes | bytearray) -> Iterator[Fields]:
    """One JSON value, or lines: of JSON, or of server-sent events."""
    try:
        text = text if isinstance(text, str) else text.decode()
    except UnicodeDecodeError as error:
        raise InvalidDataError(f"the response is not UTF-8: {error}") from None
    try:
        values = [json.loads(text)]
    except (ValueError, RecursionError):
        lines = (line.strip().removeprefix("data:").strip() for line in text.split("\n"))
        fields = (":", "event:", "id:", "retry:")
        values = [_parsed(x) for x in lines if x and x != "[DONE]" and not x.startswith(fields)]
    for value in values:
        for event in value if isinstance(value, list) else [value]:
            if not isinstance(event, Mapping):
                raise _wrong("an event", "a mapping", event)
            yield event


def _parsed(line: str) -> object:
    try:
        return json.loads(line)
    except (ValueError, RecursionError) as error:
        raise InvalidDataError(f"the response is not JSON: {error}: {line[:60]!r}") from None


def _merged(events: Iterable[Fields]) -> dict[str, Any]:
    merged: dict[str, Any] = {}
    for event in events:
        inner = event
        for wrapper in ("response", "message"):  # of response.completed, of message_start
            if isinstance(event.get("type"), str) and isinstance(event.get(wrapper), Mapping):
                inner = {**event[wrapper], "type": event["type"]}
        for name, value in inner.items():
            known = merged.get(name)
            if name == "usage" and isinstance(value, Mapping) and isinstance(known, dict):
                known.update((key, number) for key, number in value.items() if number is not None)
            elif value is not None:
                merged[name] = dict(value) if isinstance(value, Mapping) else value
    return merged


# ---- values ----


def _wrong(field: str, wanted: str, value: object) -> InvalidDataError:
    return InvalidDataError(f"{field} must be {wanted}, not {value!r:.60}")


def _tokens(fields: Fields, name: str, where: str = "", default: int | None = None) -> int:
    value = fields.get(name, default)
    if value is None:
        raise InvalidDataError(f"{where}{name} is missing")
    if type(value) is not int or not 0 <= value <= TOKENS_MAX:
        raise _wrong(f"{where}{name}", "a whole number from 0 to 2^53", value)
    return value


def _seconds(fields: Fields, *names: str, unit: float = 1, where: str = "") -> float | None:
    """The sum of what is counted in parts of a second; None where one of them is not there."""
    total = 0.0
    for name in names:
        value = fields.get(name)
        if value is None:
            return None
        good = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not good or not 0 <= value <= 1e18:
            raise _wrong(f"{where}{name}", "a number of at least 0", value)
        total += value
    return total / unit


def _timestamp(response: Fields) -> float | None:
    value = response.get("created", response.get("created_at"))
    if not isinstance(value, str):
        return _seconds({"created": value}, "created")
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        raise _wrong("created_at", "a time", value) from None
    if moment.tzinfo is None:
        raise _wrong("created_at", "a time with its zone", value)
    return _seconds({"created_at": moment.timestamp()}, "created_at")


def _part(fields: Fields, name: str) -> Fields:
    value = fields.get(name)
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise _wrong(name, "a mapping", value)
    return value


def _usage(
    response: Fields,
    given: int,
    produced: int,
    hits: int,
    hits_field: str,
    computed: int | None = None,
) -> ResponseUsage:
    """With llama.cpp's timings, which it adds to what others say as well."""
    if hits > given:
        raise InvalidDataError(f"{hits_field} {hits} is more than all {given} input tokens")
    if given > TOKENS_MAX:
        raise _wrong("the sum of input tokens", "at most 2^53", given)
    timings = _part(response, "timings")
    return ResponseUsage(
        timestamp=_timestamp(response),
        input_tokens=given,
        output_tokens=produced,
        cache_n=hits,
        prompt_n=given - hits if computed is None else computed,
        duration=_seconds(timings, "prompt_ms", "predicted_ms", unit=1e3, where="timings."),
        first_token=_seconds(timings, "prompt_ms", unit=1e3, where="timings."),
    )


def _check_total(usage: Fields, total: int) -> None:
    if usage.get("total_tokens") is not None and _tokens(usage, "total_tokens", "usage.") != total:
        raise InvalidDataError(
            f"usage.total_tokens {usage['total_tokens']} is not the sum of the others, {total}"
        )


# ---- servers; None: not of this one ----


def _unfinished(response: Fields) -> None:
    """More of the stream was to come."""
    if response.get("done") is False:
        raise InvalidDataError("the response is not finished: done is false")
    kind = response.get("type")
    if isinstance(kind, str) and kind.startswith(GOING_ON) and kind not in FINISHED:
        raise InvalidDataError(f"the response is not finished: it ends with {kind!r:.60}")


def _openai(response: Fields) -> ResponseUsage | None:
    """Chat completions, completions and embeddings of OpenAI's API reference ("The chat completion
    object", "Create embeddings"), as vLLM ("OpenAI-Compatible Server") and llama.cpp have them."""
    usage = _part(response, "usage")
    if "prompt_tokens" not in usage:
        return None
    given = _tokens(usage, "prompt_tokens", "usage.")
    embedded = response.get("object") == "list"
    produced = _tokens(usage, "completion_tokens", "usage.", 0 if embedded else None)
    _check_total(usage, given + produced)
    details = _part(usage, "prompt_tokens_details")
    if details.get("cached_tokens") is not None:
        hits = _tokens(details, "cached_tokens", "usage.prompt_tokens_details.")
        return _usage(response, given, produced, hits, "cached_tokens")
    if _part(response, "timings").get("prompt_n") is None:
        return _usage(response, given, produced, 0, "cached_tokens")
    return _usage(response, given, produced, *_llama_cpp_hits(response, given))


def _anthropic(response: Fields) -> ResponseUsage | None:
    """Messages ("Messages", "Streaming messages", "Prompt caching" of Anthropic's API reference):
    input_tokens leaves out what was read from the cache or written to it."""
    usage = _part(response, "usage")
    kinds = ("message", "message_delta", "message_stop")
    cached = ("cache_read_input_tokens", "cache_creation_input_tokens")
    if response.get("type") not in kinds and not any(name in usage for name in cached):
        return None
    hits, written = (_tokens(usage, name, "usage.", 0) for name in cached)
    given = _tokens(usage, "input_tokens", "usage.") + hits + written
    produced = _tokens(usage, "output_tokens", "usage.")
    return _usage(response, given, produced, hits, "cache_read_input_tokens")


def _openai_responses(response: Fields) -> ResponseUsage | None:
    """Responses ("The response object" of OpenAI's API reference)."""
    usage = _part(response, "usage")
    if "input_tokens" not in usage:
        return None
    given = _tokens(usage, "input_tokens", "usage.")
    produced = _tokens(usage, "output_tokens", "usage.")
    _check_total(usage, given + produced)
    where = "usage.input_tokens_details."
    details = _part(usage, "input_tokens_details")
    hits = _tokens(details, "cached_tokens", where, 0)
    return _usage(response, given, produced, hits, f"{where}cached_tokens")


def _llama_cpp_hits(response: Fields, given: int) -> tuple[int, str, int]:
    """Versions without cache_n say all and what was computed: the rest came from the cache."""
    timings = _part(response, "timings")
    computed = _tokens(timings, "prompt_n", "timings.")
    if computed > given:
        raise InvalidDataError(f"timings.prompt_n {computed} is more than all {given} input tokens")
    return _tokens(timings, "cache_n", "timings.", given - computed), "timings.cache_n", computed


def _llama_cpp(response: Fields) -> ResponseUsage | None:
    """/completion of llama.cpp's server (tools/server/README.md): tokens_evaluated are all of the
    prompt, timings.prompt_n those that were computed."""
    timings = _part(response, "timings")
    if not timings:
        return None
    produced = _tokens(timings, "predicted_n", "timings.")
    if response.get("tokens_evaluated") is not None:
        given = _tokens(response, "tokens_evaluated")
    else:
        given = _tokens(timings, "prompt_n", "timings.") + _tokens(timings, "cache_n", "timings.")
    return _usage(response, given, produced, *_llama_cpp_hits(response, given))


def _ollama(response: Fields) -> ResponseUsage | None:
    """/api/generate, /api/chat and /api/embed of Ollama (docs/api.md); times are nanoseconds. What
    came from a cache it does not say."""
    if "eval_count" not in response and "prompt_eval_count" not in response:
        return None
    given = _tokens(response, "prompt_eval_count")
    produced = _tokens(response, "eval_count", "", 0 if "embeddings" in response else None)
    return ResponseUsage(
        timestamp=_timestamp(response),
        input_tokens=given,
        output_tokens=produced,
        cache_n=0,
        prompt_n=given,
        duration=_seconds(response, "total_duration", unit=1e9),
        first_token=_seconds(response, "load_duration", "prompt_eval_duration", unit=1e9),
    )

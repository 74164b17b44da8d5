"""What responses say they used, in the dialect of each server, and what is refused."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from response_samples import (
    CREATED,
    DELTAS,
    LAST,
    MESSAGE,
    METRICS,
    NATIVE,
    OLLAMA,
    OPENAI_USAGE,
    RESPONSE,
    RESPONSE_EVENTS,
    RESPONSES_USAGE,
    START,
    STREAMED,
    TEXT,
    TIMINGS,
    UNCACHED,
    WHOLE,
    Event,
    bare,
    chat,
    chunk,
    message_delta,
    without,
)

import datamanager
from datamanager import DataManager, InvalidDataError, ResponseUsage, usage_from_response


def sse(events: list[Event], end: str = "\n") -> str:
    named = ({"event": event["type"]} if "type" in event else {} for event in events)
    blocks = [
        "".join(f"event: {value}{end}" for value in name.values())
        + f"data: {json.dumps(event)}{end}{end}"
        for name, event in zip(named, events, strict=True)
    ]
    return f": ping{end}{end}" + "".join(blocks) + f"data: [DONE]{end}{end}"


FORMS: dict[str, Callable[[list[Event]], object]] = {
    "events": list,
    "iterator": iter,
    "text": sse,
    "text with CRLF": lambda events: sse(events, "\r\n"),
    "text without spaces": lambda events: sse(events).replace("data: ", "data:"),
    "bytes": lambda events: sse(events).encode(),
    "lines": lambda events: sse(events).split("\n"),
    "lines that say something": lambda events: [line for line in sse(events).split("\n") if line],
    "lines of bytes": lambda events: iter(sse(events).encode().splitlines(keepends=True)),
    "lines of JSON": lambda events: "\n".join(map(json.dumps, events)),
    "JSON of all events": json.dumps,
}


@pytest.mark.parametrize("name", WHOLE)
def test_whole(name: str) -> None:
    response, wanted = WHOLE[name]
    assert usage_from_response(response) == wanted
    text = json.dumps(response, indent=2)
    for form in (
        text,
        text.encode(),
        bytearray(text.encode()),
        f"\ufeff{text}".encode(),
        [response],
    ):
        assert usage_from_response(form) == wanted


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", STREAMED)
def test_streamed(name: str, form: str) -> None:
    events, wanted = STREAMED[name]
    assert usage_from_response(FORMS[form](events)) == wanted


@pytest.mark.parametrize(
    "name", [name for name in STREAMED if not name.startswith("anthropic") and "last" not in name]
)
def test_the_last_event_is_enough(name: str) -> None:
    events, wanted = STREAMED[name]
    assert usage_from_response(events[-1]) == wanted
    tail = sse(events)[-len(sse(events[-1:])) + 3 :]  # it begins within the event before
    assert usage_from_response(tail) == wanted


def test_objects_of_client_libraries() -> None:
    class Model:  # as pydantic's, which are iterable
        def __init__(self, event: Event) -> None:
            self.event = event

        def __iter__(self) -> Iterator[tuple[str, Any]]:
            return iter(self.event.items())

        def model_dump(self) -> Event:
            return self.event

    assert usage_from_response(Model(chat(bare()))) == UNCACHED
    for events, wanted in STREAMED.values():
        assert usage_from_response(map(Model, events)) == wanted


def test_text_that_was_cut_within_a_character() -> None:
    text = json.dumps(chat(bare()), ensure_ascii=False).replace("Blue", "蓝").encode()
    assert usage_from_response(text.replace("蓝".encode(), "蓝".encode()[:2])) == UNCACHED


def test_line_separators_within_texts() -> None:
    event = json.dumps(chunk(x="a\u2028b\x85c", usage=bare()), ensure_ascii=False)
    assert usage_from_response(f"data: {event}\n\n") == UNCACHED


def test_the_record() -> None:
    usage = usage_from_response(chat(OPENAI_USAGE))
    assert list(usage[:5]) == [CREATED, 120, 30, 100, 20]
    assert usage.input_tokens == usage.cache_n + usage.prompt_n
    with pytest.raises(AttributeError):
        usage.input_tokens = 1  # type: ignore[misc]


@pytest.mark.parametrize(
    ("at", "wanted"),
    [
        ({"created": 1.5}, 1.5),
        ({"created_at": 1_700_000_000.25}, 1_700_000_000.25),
        ({"created_at": "2023-08-04T08:52:19.385406455-07:00"}, 1_691_164_339.385406),
        ({"created_at": "2023-08-04T15:52:19+00:00"}, 1_691_164_339.0),
        ({"created": None}, None),
        ({}, None),
    ],
)
def test_timestamps(at: Event, wanted: float | None) -> None:
    assert usage_from_response({"usage": bare(), **at}).timestamp == wanted


# ---- what is refused ----

HUGE = 10**5000
DEEP: Any = []
for _ in range(10_000):
    DEEP = [DEEP]

REFUSED: list[tuple[object, str]] = [
    (None, "a response must be a dict, JSON or the events of a stream, not None"),
    (5, "not 5"),
    ("", "there is no JSON object in the response"),
    ("Bad gateway", "there is no JSON object in the response"),
    (b"\xff\xfe", "there is no JSON object"),
    ([], "there is no JSON object"),
    ({}, "there is no JSON object"),
    ("5", "a response must be a JSON object, not 5"),
    ([chat(bare()), 5], "a response must be a JSON object, not 5"),
    ([[chat(bare())]], "a response must be a JSON object"),
    ('{"usage": ', "the response is not JSON"),
    ('data: {"usage": {"prompt_tok', "the response is not JSON"),
    ("[" * 100_000, "there is no JSON object"),
    (f'{{"usage": {"[" * 100_000}', "the response is not JSON"),
    (
        chat(None),
        "the response has no input_tokens: there is none of usage.prompt_tokens, usage.inp",
    ),
    (chat({}), "has no input_tokens"),
    (chat({"completion_tokens": 3}), "has no input_tokens"),
    (chat({"total_tokens": 3}), "has no input_tokens"),
    (chat({"prompt_tokens": 3}), "has no output_tokens: there is none of usage.completion_tokens"),
    ([TEXT, LAST], 'has no input_tokens: .* stream_options={"include_usage": true}'),
    ([LAST, {"error": {"message": "out of memory"}}], "but an error, {'message': 'out of memory'}"),
    ({"error": "model 'x' not found"}, "no input_tokens but an error, \"model 'x' not found\""),
    (START, "has no output_tokens"),
    ([START, *DELTAS], "has no output_tokens"),
    (message_delta(output_tokens=30), "has no input_tokens"),
    ({**START, "message": 5}, "has no input_tokens"),
    ({**START, "message": {"usage": 5}}, "usage must be a JSON object, not 5"),
    ([chat(bare()), {"usage": 5}], "usage must be a JSON object, not 5"),
    (RESPONSE_EVENTS, "has no input_tokens"),
    ({"done": True, "done_reason": "load", "response": ""}, "has no input_tokens"),
    (without(OLLAMA, "prompt_eval_count"), "has no input_tokens"),
    ({**OLLAMA, "done": False}, "the response is not finished: done is false"),
    ({**NATIVE, "stop": False}, "the response is not finished: stop is false"),
    ([NATIVE, {**NATIVE, "index": 1}], "2 responses were given as one"),
    ([OLLAMA, OLLAMA, OLLAMA], "3 responses were given as one"),
    ([chat(bare()), chat(bare(), id="another")], "2 responses were given as one"),
    (chat([]), r"usage must be a JSON object, not \[\]"),
    (chat(5), "usage must be a JSON object, not 5"),
    (
        chat(bare(prompt_tokens_details=5)),
        "usage.prompt_tokens_details must be a JSON object, not 5",
    ),
    (chat(bare(), timings="fast"), "timings must be a JSON object, not 'fast'"),
    (
        chat(bare(prompt_tokens=-1)),
        "usage.prompt_tokens must be a whole number from 0 to 9007199254740992, not -1",
    ),
    (chat(bare(prompt_tokens=12.0)), "usage.prompt_tokens must be a whole number .* not 12.0"),
    (chat(bare(prompt_tokens="12")), "usage.prompt_tokens must be a whole number .* not '12'"),
    (chat(bare(prompt_tokens=True)), "usage.prompt_tokens must be a whole number .* not True"),
    (chat(bare(prompt_tokens=2**53 + 1)), "usage.prompt_tokens must be .* not 9007199254740993"),
    (
        chat(bare(prompt_tokens=HUGE)),
        "usage.prompt_tokens must be .* not a number of too many digits",
    ),
    (chat(bare(prompt_tokens=DEEP)), r"usage.prompt_tokens must be .* not \[\[\[\[\[\[\[\.\.\."),
    (
        {**OLLAMA, "prompt_eval_cached_count": 121},
        "contradicts itself: input_tokens 120, output_tokens 30, cache_n 121",
    ),
    ({**OLLAMA, "eval_count": -3}, "eval_count must be a whole number .* not -3"),
    ({**NATIVE, "timings": {**TIMINGS, "prompt_n": -1}}, "timings.prompt_n must be .* not -1"),
    (chat(bare(total_tokens=151)), "usage.total_tokens is 151, but 120 came in, 30 went out"),
    ({"usage": {"prompt_tokens": 8, "total_tokens": 7}}, "usage.total_tokens is 7, but 8 came in"),
    (
        chat(bare(prompt_tokens_details={"cached_tokens": 121})),
        "contradicts itself: input_tokens 120, output_tokens 30, cache_n 121",
    ),
    (
        chat(bare(), timings={**TIMINGS, "prompt_n": 21}),
        "contradicts itself: .*cache_n 100, prompt_n 21",
    ),
    (chat(bare(), timings={"prompt_n": 121}), "contradicts itself: .*prompt_n 121"),
    (
        chat(bare(), timings={**TIMINGS, "predicted_n": 31}),
        "timings.predicted_n is 31, but usage.completion_tokens is 30",
    ),
    (
        {**OLLAMA, "tokens_evaluated": 119},
        "tokens_evaluated is 119, but prompt_eval_count is 120",
    ),
    (
        {**RESPONSE, "usage": {**RESPONSES_USAGE, "cache_read_input_tokens": 100}},
        "usage.input_tokens is 120, without what was cached where there is usage.cache_read",
    ),
    (
        chat(bare(), timings={"prompt_ms": -1}),
        "timings.prompt_ms must be a finite number of at least 0, not -1",
    ),
    (
        chat(bare(), timings={"prompt_ms": 1, "predicted_ms": math.nan}),
        "timings.predicted_ms must be .* not nan",
    ),
    (
        chat(bare(), metrics={**METRICS, "queue_time_ms": "5"}),
        "metrics.queue_time_ms must be .* not '5'",
    ),
    (
        {**OLLAMA, "total_duration": HUGE},
        "total_duration must be .* not a number of too many digits",
    ),
    (
        {**OLLAMA, "eval_duration": 10_706_818_084},
        "eval_duration is 10706818084, but total_duration is 10706818083",
    ),
    (chat(bare(), created=-1), "created must be a finite number of at least 0, not -1"),
    (chat(bare(), created=1.7e12), "created must be seconds since 1970 and before the year 10000"),
    ({**OLLAMA, "created_at": 1.7e18}, "created_at must be seconds since 1970 .* not 1.7e"),
    (chat(bare(), created="today"), "created must be a finite number .* not 'today'"),
    (
        {**OLLAMA, "created_at": "2023-11-14T22:13:20"},
        "created_at must be a time since 1970 with its offset from UTC",
    ),
    ({**OLLAMA, "created_at": "0001-01-01T00:00:00Z"}, "created_at must be a time since 1970"),
    ({**OLLAMA, "created_at": "yesterday"}, "created_at must be .* not 'yesterday'"),
    ({**OLLAMA, "created_at": [1]}, r"created_at must be a finite number .* not \[1\]"),
]


@pytest.mark.parametrize(("obj", "message"), REFUSED, ids=range(len(REFUSED)))
def test_refused(obj: object, message: str) -> None:
    with pytest.raises(InvalidDataError, match=message):
        usage_from_response(obj)


def test_what_a_stream_raises_is_passed_on() -> None:
    def broken() -> Any:
        yield TEXT
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        usage_from_response(broken())


# ---- anything ----

NAMES = sorted(
    {name for event, _ in WHOLE.values() for name in event}
    | OPENAI_USAGE.keys()
    | RESPONSES_USAGE.keys()
    | TIMINGS.keys()
    | METRICS.keys()
    | MESSAGE["usage"].keys()
    | {"type", "response", "message", "error"}
)
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-2, 3)
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from(["message_start", "2023-11-14T22:13:20Z", "9999-12-31T23:59:59-23:59"])
)
KEYS = st.sampled_from(NAMES) | st.text(max_size=3)
JSON = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=6)
)
PARTS = st.fixed_dictionaries(
    {},
    optional={
        "usage": st.dictionaries(st.sampled_from([*OPENAI_USAGE, *MESSAGE["usage"]]), SCALARS),
        "timings": st.dictionaries(st.sampled_from(list(TIMINGS)), SCALARS),
        "metrics": st.dictionaries(st.sampled_from(list(METRICS)), SCALARS),
        **{name: SCALARS for name in OLLAMA},
    },
)


OBJECTS = st.dictionaries(KEYS, JSON, max_size=6) | PARTS


def outcome(obj: object) -> ResponseUsage | str:
    try:
        return usage_from_response(obj)
    except InvalidDataError as error:
        return str(error)


@given(OBJECTS | st.lists(OBJECTS, max_size=3))
def test_any_json(obj: Any) -> None:
    """It is used rightly or refused, as objects and as text alike."""
    usage = outcome(obj)
    assert outcome(json.dumps(obj)) == usage
    if isinstance(usage, str):
        return
    assert usage.input_tokens == usage.cache_n + usage.prompt_n
    assert all(type(count) is int and count >= 0 for count in usage[1:5])
    for seconds in (usage.timestamp, usage.duration, usage.first_token):
        assert seconds is None or (type(seconds) is float and 0 <= seconds < math.inf)
    if usage.duration is not None and usage.first_token is not None:
        assert usage.first_token <= usage.duration


@given(JSON | st.text() | st.binary() | st.lists(JSON | st.binary()).map(iter))
def test_anything_else(obj: Any) -> None:
    assert outcome(obj)


SAMPLES = [event for event, _ in WHOLE.values()] + [events for events, _ in STREAMED.values()]


@given(st.sampled_from([json.dumps(sample) for sample in SAMPLES]), st.data())
def test_text_that_breaks_off(text: str, data: st.DataObject) -> None:
    part = outcome(text[: data.draw(st.integers(0, len(text)))])
    assert isinstance(part, str) or part == outcome(text)


# ---- recorded ----


def test_round_trip(dm: DataManager) -> None:
    for number, (response, _) in enumerate(WHOLE.values(), 1):
        assert dm.add_response("m", response, timestamp=number) == number
    kept = dm.get_model_requests("m")
    for request, (name, (_, usage)) in zip(reversed(kept), WHOLE.items(), strict=True):
        found = (request.input_tokens, request.output_tokens, request.cache_n, request.prompt_n)
        assert (name, found) == (name, usage[1:5])


@pytest.mark.parametrize("name", WHOLE)
def test_timings_are_kept(dm: DataManager, name: str) -> None:
    response, usage = WHOLE[name]
    dm.add_response("m", json.dumps(response))
    (row,) = dm.performance("m")
    assert (row.duration_max, row.first_token_max) == (usage.duration, usage.first_token)
    if usage.first_token is not None and usage.duration is not None:
        assert row.prompt_tokens_per_second == usage.prompt_n / usage.first_token
        assert row.generation_tokens_per_second == usage.output_tokens / (
            usage.duration - usage.first_token
        )


def test_ollama_generates_as_fast_as_it_says(dm: DataManager) -> None:
    dm.add_response("m", OLLAMA)
    speed = dm.performance("m")[0].generation_tokens_per_second
    assert speed == pytest.approx(OLLAMA["eval_count"] / OLLAMA["eval_duration"] * 1e9, rel=1e-9)


def test_when_it_was(dm: DataManager) -> None:
    before = time.time()
    dm.add_response("m", chat(bare()))
    dm.add_response("m", chat(bare()), timestamp=5)
    dm.add_response("m", MESSAGE, timestamp=datetime(2001, 9, 9, 1, 46, 40, tzinfo=UTC))
    dm.add_response("m", MESSAGE)
    by_id = sorted(dm.get_model_requests("m"), key=lambda request: request.id)
    times = [request.timestamp for request in by_id]
    assert times[:3] == [CREATED, 5.0, 1_000_000_000.0]
    assert before <= times[3] <= time.time()


def test_in_a_batch(dm: DataManager) -> None:
    with dm.batch() as batch:
        assert dm.add_response("m", STREAMED["anthropic"][0]) is None
    assert batch.ids == [1]


def test_once(dm: DataManager) -> None:
    for _ in range(2):
        assert dm.add_response("m", chat(bare()), request_id="chatcmpl-9f2") == 1
    assert dm.add_response("m", chat(bare())) == 2


def test_refused_responses_leave_nothing(dm: DataManager) -> None:
    for obj, timestamp in [(chat(None), None), (chat(bare()), -1.0), (chat(bare()), math.nan)]:
        with pytest.raises(InvalidDataError):
            dm.add_response("m", obj, timestamp=timestamp)
    assert dm.get_models() == []


def test_module() -> None:
    assert datamanager.usage_from_response is usage_from_response
    assert datamanager.ResponseUsage is ResponseUsage
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        datamanager.nothing  # noqa: B018

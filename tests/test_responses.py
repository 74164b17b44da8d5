"""Responses of servers: what they used is read as they say it, and nothing is guessed."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datamanager import DataManager, InvalidDataError, ResponseUsage, usage_from_response

CHAT = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1_700_000_000,
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "4"}}],
    "usage": {
        "prompt_tokens": 120,
        "completion_tokens": 30,
        "total_tokens": 150,
        "prompt_tokens_details": {"cached_tokens": 100, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 20},
    },
}
VLLM = {
    "object": "text_completion",
    "created": 1_700_000_000,
    "choices": [{"index": 0, "text": "4", "stop_reason": None}],
    "usage": {
        "prompt_tokens": 12,
        "total_tokens": 19,
        "completion_tokens": 7,
        "prompt_tokens_details": None,
    },
    "kv_transfer_params": None,
}
EMBEDDINGS = {
    "object": "list",
    "data": [{"object": "embedding", "index": 0, "embedding": [0.1, 0.2]}],
    "usage": {"prompt_tokens": 8, "total_tokens": 8},
}
RESPONSES = {
    "id": "resp_1",
    "object": "response",
    "created_at": 1_700_000_000,
    "status": "completed",
    "output": [],
    "usage": {
        "input_tokens": 36,
        "input_tokens_details": {"cached_tokens": 16},
        "output_tokens": 87,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": 123,
    },
}
ANTHROPIC = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "content": [{"type": "text", "text": "4"}],
    "usage": {
        "input_tokens": 50,
        "cache_creation_input_tokens": 248,
        "cache_read_input_tokens": 1800,
        "output_tokens": 503,
    },
}
TIMINGS = {
    "prompt_n": 20,
    "prompt_ms": 250.0,
    "prompt_per_second": 80.0,
    "predicted_n": 10,
    "predicted_ms": 500.0,
    "predicted_per_second": 20.0,
}
LLAMA_CHAT = {
    "object": "chat.completion",
    "created": 1_700_000_000,
    "choices": [],
    "usage": {"prompt_tokens": 50, "completion_tokens": 10, "total_tokens": 60},
    "timings": {"cache_n": 30, **TIMINGS},
}
LLAMA = {
    "content": "4",
    "stop": True,
    "tokens_predicted": 10,
    "tokens_evaluated": 50,
    "tokens_cached": 59,  # what its context holds afterwards: no hits
    "timings": TIMINGS,
}
OLLAMA = {
    "model": "llama3.2",
    "created_at": "2023-11-14T22:13:20.500000123Z",
    "message": {"role": "assistant", "content": "4"},
    "done": True,
    "total_duration": 4_883_583_458,
    "load_duration": 1_334_875,
    "prompt_eval_count": 26,
    "prompt_eval_duration": 342_546_000,
    "eval_count": 282,
    "eval_duration": 4_535_599_000,
}
OLLAMA_EMBED = {
    "embeddings": [[0.01, -0.02]],
    "total_duration": 14_143_917,
    "load_duration": 1_019_500,
    "prompt_eval_count": 8,
}

FINISHED: dict[str, tuple[dict[str, Any], ResponseUsage]] = {
    "chat": (CHAT, ResponseUsage(1.7e9, 120, 30, 100, 20)),
    "vllm": (VLLM, ResponseUsage(1.7e9, 12, 7, 0, 12)),
    "embeddings": (EMBEDDINGS, ResponseUsage(None, 8, 0, 0, 8)),
    "responses": (RESPONSES, ResponseUsage(1.7e9, 36, 87, 16, 20)),
    "anthropic": (ANTHROPIC, ResponseUsage(None, 2098, 503, 1800, 298)),
    "llama.cpp chat": (LLAMA_CHAT, ResponseUsage(1.7e9, 50, 10, 30, 20, 0.75, 0.25)),
    "llama.cpp": (LLAMA, ResponseUsage(None, 50, 10, 30, 20, 0.75, 0.25)),
    "ollama": (OLLAMA, ResponseUsage(1.7e9 + 0.5, 26, 282, 0, 26, 4.883583458, 0.343880875)),
    "ollama embed": (OLLAMA_EMBED, ResponseUsage(None, 8, 0, 0, 8, 0.014143917, None)),
}


@pytest.mark.parametrize("name", FINISHED)
def test_finished(name: str) -> None:
    response, wanted = FINISHED[name]
    text = json.dumps(response)
    for form in (response, text, text.encode(), json.dumps(response, indent=1), [response], [text]):
        assert usage_from_response(form) == wanted


def test_clients_objects() -> None:
    class Completion:  # as pydantic's, which are iterable
        def model_dump(self) -> dict[str, Any]:
            return CHAT

        def __iter__(self) -> Iterator[tuple[str, Any]]:
            return iter(CHAT.items())

    assert usage_from_response(Completion()) == FINISHED["chat"][1]
    assert usage_from_response([Completion()]) == FINISHED["chat"][1]


# ---- streams ----

CHAT_STREAM = [
    {"object": "chat.completion.chunk", "created": 1_700_000_000, "usage": None,
     "choices": [{"delta": {"content": "caf\u2028é"}}]},
    {"object": "chat.completion.chunk", "created": 1_700_000_000, "choices": [],
     "usage": CHAT["usage"]},
]  # fmt: skip
COUNTING_STREAM = [  # vLLM with continuous_usage_stats: the last one counts
    {"choices": [{"text": "a"}], "usage": {"prompt_tokens": 9, "completion_tokens": 1}},
    {"choices": [{"text": "b"}], "usage": {"prompt_tokens": 9, "completion_tokens": 2}},
]
RESPONSES_STREAM = [
    {"type": "response.created", "response": {**RESPONSES, "usage": None}},
    {"type": "response.output_text.delta", "delta": "4"},
    {"type": "response.completed", "response": RESPONSES},
]
ANTHROPIC_STREAM = [
    {"type": "message_start",
     "message": {"type": "message", "usage": {**ANTHROPIC["usage"], "output_tokens": 1}}},  # type: ignore[dict-item]
    {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "4"}},
    {"type": "message_delta", "delta": {"stop_reason": "end_turn"},
     "usage": {"output_tokens": 503}},
    {"type": "message_stop"},
]  # fmt: skip
OLLAMA_STREAM = [
    {"created_at": "2023-11-14T22:13:20.1Z", "message": {"content": "4"}, "done": False},
    OLLAMA,
]
LLAMA_STREAM = [{"content": "4", "stop": False, "tokens_evaluated": 50}, LLAMA]

STREAMS: dict[str, tuple[list[dict[str, Any]], ResponseUsage]] = {
    "chat": (CHAT_STREAM, FINISHED["chat"][1]),
    "counting": (COUNTING_STREAM, ResponseUsage(None, 9, 2, 0, 9)),
    "responses": (RESPONSES_STREAM, FINISHED["responses"][1]),
    "anthropic": (ANTHROPIC_STREAM, FINISHED["anthropic"][1]),
    "ollama": (OLLAMA_STREAM, FINISHED["ollama"][1]),
    "llama.cpp": (LLAMA_STREAM, FINISHED["llama.cpp"][1]),
}


@pytest.mark.parametrize("name", STREAMS)
def test_streams(name: str) -> None:
    events, wanted = STREAMS[name]
    texts = [json.dumps(event, ensure_ascii=False) for event in events]
    sent = "".join(f"event: some\r\ndata: {text}\r\n\r\n" for text in texts)
    sent = f": comment\nid: 1\nretry: 5\n{sent}data: [DONE]\n\n"
    lines = "\n".join(texts) + "\n"
    forms = (events, iter(events), texts, lines, lines.encode(), sent, sent.encode())
    for form in (*forms, sent.split("\n"), json.dumps(events)):
        assert usage_from_response(form) == wanted


def test_last_events_are_enough() -> None:
    assert usage_from_response(CHAT_STREAM[-1:]) == FINISHED["chat"][1]
    assert usage_from_response(RESPONSES_STREAM[-1:]) == FINISHED["responses"][1]
    assert usage_from_response(OLLAMA_STREAM[-1:]) == FINISHED["ollama"][1]
    assert usage_from_response([ANTHROPIC_STREAM[0], ANTHROPIC_STREAM[2]]).output_tokens == 503


# ---- what is refused ----


def changed(response: dict[str, Any], path: str, value: object) -> dict[str, Any]:
    copy = json.loads(json.dumps(response))
    *outer, last = path.split("/")
    inner = copy
    for name in outer:
        inner = inner[name]
    inner[last] = value
    return dict(copy)


REFUSED: list[tuple[object, str]] = [
    ({}, "does not say what was used"),
    ("", "not JSON|does not say"),
    ("nonsense", "not JSON"),
    (b"\xff", "not UTF-8"),
    ([], "does not say"),
    (None, "must be a mapping"),
    (7, "must be a mapping"),
    ("7", "must be a mapping"),
    ([[1]], "must be a mapping or text"),
    ({"choices": []}, "include_usage"),
    (changed(CHAT, "usage", "many"), "usage must be a mapping, not 'many'"),
    (changed(CHAT, "usage/prompt_tokens", -1), "usage.prompt_tokens must be .* not -1"),
    (changed(CHAT, "usage/prompt_tokens", 1.5), "usage.prompt_tokens must be .* not 1.5"),
    (changed(CHAT, "usage/prompt_tokens", "120"), "usage.prompt_tokens must be .* not '120'"),
    (changed(CHAT, "usage/completion_tokens", True), "usage.completion_tokens .* not True"),
    (changed(CHAT, "usage/completion_tokens", None), "usage.completion_tokens is missing"),
    (changed(CHAT, "usage/total_tokens", 151), "total_tokens 151 is not the sum .* 150"),
    (changed(CHAT, "usage/prompt_tokens_details/cached_tokens", 121), "121 is more than all 120"),
    (changed(CHAT, "usage/prompt_tokens", 2**60), r"from 0 to 2\^53"),
    (changed(CHAT, "created", "soon"), "created_at must be a time, not 'soon'"),
    (changed(RESPONSES, "usage/output_tokens", None), "usage.output_tokens is missing"),
    (changed(RESPONSES, "usage/total_tokens", 1), "total_tokens 1 is not"),
    (changed(ANTHROPIC, "usage/input_tokens", None), "usage.input_tokens is missing"),
    (changed(ANTHROPIC, "usage/cache_read_input_tokens", -4), "cache_read_input_tokens must be"),
    (changed(LLAMA, "timings/prompt_n", 51), "timings.prompt_n 51 is more than all 50"),
    (changed(LLAMA, "timings/prompt_ms", -1), "timings.prompt_ms must be .* not -1"),
    (changed(LLAMA, "timings/predicted_n", None), "timings.predicted_n is missing"),
    (changed(LLAMA, "tokens_evaluated", None), "timings.cache_n is missing"),
    (changed(OLLAMA, "prompt_eval_count", None), "prompt_eval_count is missing"),
    (changed(OLLAMA, "eval_count", None), "eval_count is missing"),
    (changed(OLLAMA, "total_duration", math.inf), "total_duration must be"),
    (changed(OLLAMA, "created_at", "2023-11-14T22:13:20"), "with its zone"),
    (changed(OLLAMA, "done", False), "not finished: done is false"),
    (RESPONSES_STREAM[:2], "not finished: it ends with 'response.output_text.delta'"),
    (ANTHROPIC_STREAM[:2], "not finished: it ends with 'content_block_delta'"),
    (ANTHROPIC_STREAM[2:], "usage.input_tokens is missing"),
]


@pytest.mark.parametrize(("response", "message"), REFUSED)
def test_refused(response: object, message: str) -> None:
    with pytest.raises(InvalidDataError, match=message):
        usage_from_response(response)


WORDS = """usage timings prompt_tokens completion_tokens input_tokens output_tokens done
type created created_at prompt_n predicted_n cache_n prompt_ms
response message eval_count prompt_eval_count prompt_tokens_details cached_tokens""".split()
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
    | st.sampled_from(["message", "message_delta", "response.completed", "2026-01-01"]),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.sampled_from(WORDS) | st.text(max_size=5), inner, max_size=6),
    max_leaves=25,
)  # fmt: skip


@given(VALUES)
def test_any_json(value: object) -> None:
    for form in (value, json.dumps(value), [value, value]):
        try:
            used = usage_from_response(form)
        except InvalidDataError:
            continue
        assert 0 <= used.cache_n <= used.input_tokens
        assert used.output_tokens >= 0
        with DataManager(":memory:") as dm:
            assert dm.add_response("m", form, timestamp=1.0) == 1


@given(st.binary(max_size=60) | st.text(max_size=60))
def test_any_text(text: bytes | str) -> None:
    with pytest.raises(InvalidDataError):
        usage_from_response(text)


# ---- recording ----


def test_recording(path: str) -> None:
    with DataManager(path) as dm:
        assert dm.add_response("m", CHAT) == 1
        assert dm.add_response("m", json.dumps(LLAMA_CHAT), timestamp=5.0) == 2
        assert dm.add_response("m", OLLAMA_STREAM) == 3
        rows = [
            (r.timestamp, r.input_tokens, r.output_tokens, r.cache_n, r.prompt_n)
            for r in dm.get_model_requests("m")
        ]
        assert rows == [
            (1.7e9 + 0.5, 26, 282, 0, 26),
            (5.0, 50, 10, 30, 20),
            (1.7e9, 120, 30, 100, 20),
        ]
        speed = dm.performance("m", start=0, end=2e9)[0]
        assert (speed.duration_max, speed.first_token_p50) == (4.883583458, 0.25)


def test_now_where_the_response_has_no_time(path: str) -> None:
    with DataManager(path) as dm:
        dm.add_response("m", ANTHROPIC)
        assert len(dm.get_model_requests("m", minutes=1)) == 1


def test_once(path: str) -> None:
    with DataManager(path) as dm:
        assert dm.add_response("m", CHAT, request_id="chatcmpl-1") == 1
        assert dm.add_response("m", CHAT, request_id="chatcmpl-1") == 1
        with dm.batch() as batch:
            assert dm.add_response("m", CHAT) is None
        assert list(batch.ids) == [2]


def test_nothing_is_stored_of_what_is_refused(path: str) -> None:
    with DataManager(path) as dm:
        with pytest.raises(InvalidDataError):
            dm.add_response("m", {"choices": []})
        assert dm.get_models() == []

"""Responses of LLM servers, whole and streamed, and what they say that was used."""

from __future__ import annotations

from typing import Any

from datamanager import ResponseUsage

Event = dict[str, Any]
CREATED = 1_700_000_000


def chat(usage: Any, **more: Any) -> Event:
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": "Blue, by day."},
        "logprobs": None,
        "finish_reason": "stop",
    }
    return {
        "id": "chatcmpl-9f2",
        "object": "chat.completion",
        "created": CREATED,
        "model": "Qwen3-Coder-30B",
        "choices": [choice],
        "usage": usage,
        **more,
    }


def chunk(**more: Any) -> Event:
    return {
        "id": "chatcmpl-9f2",
        "object": "chat.completion.chunk",
        "created": CREATED,
        "model": "Qwen3-Coder-30B",
        "choices": [{"index": 0, "delta": {"content": "Blue"}, "finish_reason": None}],
        **more,
    }


OPENAI_USAGE: Event = {
    "prompt_tokens": 120,
    "completion_tokens": 30,
    "total_tokens": 150,
    "prompt_tokens_details": {"cached_tokens": 100, "cache_write_tokens": 20, "audio_tokens": 0},
    "completion_tokens_details": {
        "reasoning_tokens": 12,
        "audio_tokens": 0,
        "accepted_prediction_tokens": 5,
        "rejected_prediction_tokens": 2,
    },
}
RESPONSES_USAGE: Event = {
    "input_tokens": 120,
    "input_tokens_details": {"cached_tokens": 100, "cache_write_tokens": 20},
    "output_tokens": 30,
    "output_tokens_details": {"reasoning_tokens": 12},
    "total_tokens": 150,
}
RESPONSE: Event = {
    "id": "resp_67c",
    "object": "response",
    "created_at": CREATED,
    "status": "completed",
    "error": None,
    "model": "gpt-oss-20b",
    "output": [{"type": "message", "content": [{"type": "output_text", "text": "Blue."}]}],
    "usage": RESPONSES_USAGE,
}
TIMINGS: Event = {
    "cache_n": 100,
    "prompt_n": 20,
    "prompt_ms": 250.0,
    "prompt_per_token_ms": 12.5,
    "prompt_per_second": 80.0,
    "predicted_n": 30,
    "predicted_ms": 1500.0,
    "predicted_per_token_ms": 50.0,
    "predicted_per_second": 20.0,
}
NATIVE: Event = {
    "index": 0,
    "content": "Blue, by day.",
    "tokens": [],
    "id_slot": 0,
    "stop": True,
    "model": "Qwen3-Coder-30B",
    "tokens_predicted": 30,
    "tokens_evaluated": 120,
    "generation_settings": {"n_predict": -1, "stop": []},
    "prompt": "Why is the sky blue?",
    "truncated": False,
    "stop_type": "eos",
    "stopping_word": "",
    "tokens_cached": 149,
    "timings": TIMINGS,
}
MESSAGE: Event = {
    "id": "msg_013",
    "type": "message",
    "role": "assistant",
    "model": "local",
    "content": [{"type": "text", "text": "Blue."}],
    "stop_reason": "end_turn",
    "stop_sequence": None,
    "usage": {
        "input_tokens": 15,
        "cache_creation_input_tokens": 5,
        "cache_read_input_tokens": 100,
        "cache_creation": {"ephemeral_5m_input_tokens": 5, "ephemeral_1h_input_tokens": 0},
        "output_tokens": 30,
        "output_tokens_details": {"thinking_tokens": 12},
        "server_tool_use": {"web_search_requests": 1},
        "service_tier": "standard",
        "inference_geo": "local",
    },
}
OLLAMA: Event = {
    "model": "llama3.2",
    "created_at": "2023-11-14T22:13:20.499127455Z",
    "message": {"role": "assistant", "content": "Blue."},
    "done": True,
    "done_reason": "stop",
    "total_duration": 10_706_818_083,
    "load_duration": 6_338_219_291,
    "prompt_eval_count": 120,
    "prompt_eval_duration": 130_079_000,
    "eval_count": 30,
    "eval_duration": 4_232_710_000,
}
METRICS: Event = {
    "time_to_first_token_ms": 200.0,
    "generation_time_ms": 1500.0,
    "queue_time_ms": 50.0,
    "mean_itl_ms": 51.7,
    "tokens_per_second": 17.6,
}
HITS: Event = {"prompt_tokens_details": {"cached_tokens": 100}}
CACHED = ResponseUsage(CREATED, 120, 30, 100, 20, None, None)
UNCACHED = ResponseUsage(CREATED, 120, 30, 0, 120, None, None)
EMBEDDED = ResponseUsage(None, 8, 0, 0, 8, None, None)
TIMED = CACHED._replace(duration=1.75, first_token=0.25)
OF_OLLAMA = ResponseUsage(
    CREATED + 0.499127, 120, 30, 0, 120, 10.706818083, (10_706_818_083 - 4_232_710_000) / 1e9
)


def bare(**usage: Any) -> Event:
    return {"prompt_tokens": 120, "completion_tokens": 30, "total_tokens": 150, **usage}


def without(event: Event, *names: str) -> Event:
    return {name: value for name, value in event.items() if name not in names}


WHOLE: dict[str, tuple[Event, ResponseUsage]] = {
    "openai chat": (chat(OPENAI_USAGE, system_fingerprint="fp_44709d"), CACHED),
    "openai completion": (
        {**chat(bare()), "object": "text_completion", "choices": [{"text": "Blue.", "index": 0}]},
        UNCACHED,
    ),
    "openai chat of a gateway": (
        chat({**OPENAI_USAGE, "input_tokens": 0, "output_tokens": 0, "input_tokens_details": None}),
        CACHED,
    ),
    "openai responses": (RESPONSE, CACHED),
    "openai responses, cut short": (
        {**RESPONSE, "status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}},
        CACHED,
    ),
    "openai embeddings": (
        {
            "object": "list",
            "data": [{"object": "embedding", "index": 0, "embedding": [0.1, -0.2]}],
            "model": "bge-m3",
            "usage": {"prompt_tokens": 8, "total_tokens": 8},
        },
        EMBEDDED,
    ),
    "anthropic": (MESSAGE, CACHED._replace(timestamp=None)),
    "anthropic, nothing cached": (
        {
            **MESSAGE,
            "usage": {
                "input_tokens": 120,
                "cache_creation_input_tokens": None,
                "cache_read_input_tokens": None,
                "output_tokens": 30,
            },
        },
        UNCACHED._replace(timestamp=None),
    ),
    "anthropic of llama.cpp": (
        {
            **MESSAGE,
            "usage": {"cache_read_input_tokens": 100, "input_tokens": 20, "output_tokens": 30},
        },
        CACHED._replace(timestamp=None),
    ),
    "anthropic of ollama": (
        {**MESSAGE, "usage": {"input_tokens": 120, "output_tokens": 30}},
        UNCACHED._replace(timestamp=None),
    ),
    "llama.cpp chat": (
        chat(bare(**HITS), timings=TIMINGS),
        TIMED,
    ),
    "llama.cpp chat, before cache_n": (chat(bare(), timings=without(TIMINGS, "cache_n")), TIMED),
    "llama.cpp completion": (NATIVE, TIMED._replace(timestamp=None)),
    "llama.cpp completion, before cache_n": (
        {**NATIVE, "timings": without(TIMINGS, "cache_n")},
        TIMED._replace(timestamp=None),
    ),
    "llama.cpp completion, the fields asked for": (
        {"tokens_predicted": 30, "tokens_evaluated": 120},
        UNCACHED._replace(timestamp=None),
    ),
    "llama.cpp, prompt alone": (
        {
            **NATIVE,
            "tokens_predicted": 0,
            "timings": {
                **TIMINGS,
                "predicted_n": 0,
                "predicted_ms": 0.0,
                "predicted_per_second": None,
            },
        },
        ResponseUsage(None, 120, 0, 100, 20, 0.25, None),
    ),
    "ollama chat": (OLLAMA, OF_OLLAMA),
    "ollama generate": (
        {**without(OLLAMA, "message"), "response": "Blue.", "context": [1, 2, 3]},
        OF_OLLAMA,
    ),
    "ollama, some of it cached": (
        {**OLLAMA, "prompt_eval_cached_count": 100},
        OF_OLLAMA._replace(cache_n=100, prompt_n=20),
    ),
    "ollama, nothing of it cached": ({**OLLAMA, "prompt_eval_cached_count": 0}, OF_OLLAMA),
    "ollama, nothing generated": (
        without(OLLAMA, "eval_count", "eval_duration"),
        OF_OLLAMA._replace(output_tokens=0, first_token=None),
    ),
    "ollama embed": (
        {
            "model": "all-minilm",
            "embeddings": [[0.01, -0.02]],
            "total_duration": 14_143_917,
            "load_duration": 1_019_500,
            "prompt_eval_count": 8,
        },
        EMBEDDED._replace(duration=0.014143917),
    ),
    "vllm chat": (
        chat(
            bare(prompt_tokens_details=None),
            service_tier=None,
            prompt_logprobs=None,
            kv_transfer_params=None,
            metrics=None,
        ),
        UNCACHED,
    ),
    "vllm chat with metrics": (
        chat(bare(**HITS), metrics=METRICS),
        TIMED,
    ),
    "vllm with metrics of phases alone": (
        chat(bare(), metrics={"time_to_first_token_ms": None, "content": {"token_count": 20}}),
        UNCACHED,
    ),
    "metrics and a message of another kind": (
        chat(bare(), metrics=["fast"], message={"role": "assistant", "usage": {}}),
        UNCACHED,
    ),
    "vllm embeddings": (
        {
            "id": "embd-1",
            "object": "list",
            "created": CREATED,
            "data": [],
            "usage": {"prompt_tokens": 8, "total_tokens": 8, "completion_tokens": 0},
        },
        EMBEDDED._replace(timestamp=CREATED),
    ),
}

TEXT: Event = chunk()
LAST: Event = chunk(choices=[{"index": 0, "delta": {}, "finish_reason": "stop"}])
RESPONSE_EVENTS: list[Event] = [
    {"type": "response.created", "response": {**RESPONSE, "status": "in_progress", "usage": None}},
    {"type": "response.output_text.delta", "item_id": "msg_1", "delta": "Blue"},
    {"type": "response.output_item.done", "item": {"id": "msg_1", "type": "message"}},
]
START: Event = {
    "type": "message_start",
    "message": {
        **MESSAGE,
        "content": [],
        "stop_reason": None,
        "usage": {**MESSAGE["usage"], "output_tokens": 1},
    },
}
DELTAS: list[Event] = [
    {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
    {"type": "ping"},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Blue."}},
    {"type": "content_block_stop", "index": 0},
]
STOP: Event = {"type": "message_stop"}


def message_delta(**usage: Any) -> Event:
    delta = {"stop_reason": "end_turn", "stop_sequence": None}
    return {"type": "message_delta", "delta": delta, "usage": usage}


STREAMED: dict[str, tuple[list[Event], ResponseUsage]] = {
    "openai chat": (
        [
            *({**event, "usage": None} for event in (TEXT, TEXT, LAST)),
            chunk(choices=[], usage=OPENAI_USAGE),
        ],
        CACHED,
    ),
    "openai chat, nothing more in the last": (
        [TEXT, chunk(choices=[], usage=OPENAI_USAGE), {**LAST, "created": None, "usage": None}],
        CACHED,
    ),
    "openai chat, an id for each chunk": (
        [{**TEXT, "id": "chatcmpl-9f1"}, chunk(choices=[], usage=OPENAI_USAGE)],
        CACHED,
    ),
    "openai responses": (
        [*RESPONSE_EVENTS, {"type": "response.completed", "response": RESPONSE}],
        CACHED,
    ),
    "openai responses, cut short": (
        [*RESPONSE_EVENTS, {"type": "response.incomplete", "response": RESPONSE}],
        CACHED,
    ),
    "anthropic": (
        [START, *DELTAS, message_delta(output_tokens=30), STOP],
        CACHED._replace(timestamp=None),
    ),
    "anthropic, several deltas": (
        [
            START,
            message_delta(output_tokens=7),
            message_delta(output_tokens=30, input_tokens=None),
            STOP,
        ],
        CACHED._replace(timestamp=None),
    ),
    "anthropic of ollama, estimated first": (
        [
            {**START, "message": {"usage": {"input_tokens": 99, "output_tokens": 0}}},
            *DELTAS,
            message_delta(input_tokens=120, output_tokens=30),
            STOP,
        ],
        UNCACHED._replace(timestamp=None),
    ),
    "anthropic of vllm, the cache is told last": (
        [
            {**START, "message": {"usage": {"input_tokens": 120, "output_tokens": 0}}},
            *DELTAS,
            message_delta(
                input_tokens=20,
                cache_read_input_tokens=100,
                cache_creation_input_tokens=0,
                output_tokens=30,
            ),
            STOP,
        ],
        CACHED._replace(timestamp=None),
    ),
    "llama.cpp chat": (
        [TEXT, LAST, chunk(choices=[], usage=bare(), timings=TIMINGS)],
        TIMED,
    ),
    "llama.cpp chat without usage": ([TEXT, {**LAST, "timings": TIMINGS}], TIMED),
    "llama.cpp chat, timings per token": (
        [
            chunk(timings={**TIMINGS, "predicted_n": 1, "predicted_ms": 0.1}),
            chunk(timings={**TIMINGS, "predicted_n": 29, "predicted_ms": 1450.0}),
            {**LAST, "timings": TIMINGS},
        ],
        TIMED,
    ),
    "llama.cpp responses": (
        [
            *RESPONSE_EVENTS,
            {"type": "response.completed", "response": RESPONSE, "timings": TIMINGS},
        ],
        TIMED,
    ),
    "llama.cpp completion": (
        [
            {"content": "Blue", "stop": False, "tokens_predicted": 1, "tokens_evaluated": 120},
            NATIVE,
        ],
        TIMED._replace(timestamp=None),
    ),
    "ollama": (
        [
            {"created_at": "2023-11-14T22:13:09.1Z", "response": "Blue", "done": False},
            {**without(OLLAMA, "message"), "response": ""},
        ],
        OF_OLLAMA,
    ),
    "vllm, usage in each chunk": (
        [
            chunk(usage={"prompt_tokens": 120, "completion_tokens": n, "total_tokens": 120 + n})
            for n in range(31)
        ]
        + [chunk(choices=[], usage=bare(**HITS), metrics=METRICS)],
        TIMED,
    ),
}

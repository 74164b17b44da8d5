"""What finished responses of LLM servers say they used.

A response, or all events of its stream laid over each other, is one bag of facts, whatever the
dialect; tables say which of them mean what. What the servers write was read in

- OpenAI: openai-python, ``types/completion_usage.py``, ``types/create_embedding_response.py``,
  ``types/responses/response_usage.py`` and ``types/chat/chat_completion_chunk.py``
- Anthropic: anthropic-sdk-python, ``types/message.py``, ``types/usage.py`` and
  ``types/message_delta_usage.py``; the guide "Streaming messages"
- llama.cpp: ``tools/server/server-task.cpp``, ``server-context.cpp`` and ``README.md``
- Ollama: ``docs/api.md``, ``docs/api/usage.mdx``, ``api/types.go`` and ``anthropic/anthropic.go``
- vLLM: ``vllm/entrypoints/openai/engine/protocol.py`` and the page "Per-Request Metrics"
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NamedTuple

from datamanager._core import InvalidDataError
from datamanager.responses.counts import counts
from datamanager.responses.facts import facts_of
from datamanager.responses.times import times, timestamp_of
from datamanager.windows import to_moment

if TYPE_CHECKING:
    from datamanager.manager import DataManager
    from datamanager.usage import Moment


class ResponseUsage(NamedTuple):
    """What a response says about its request: the five values of a row, and how long it took."""

    timestamp: float | None
    input_tokens: int
    output_tokens: int
    cache_n: int
    prompt_n: int
    duration: float | None = None
    first_token: float | None = None


def usage_from_response(obj: object) -> ResponseUsage:
    """What a finished response says it used: the five values of a request, and its timings.

    ``obj`` is the response as a dict, as JSON (text or bytes) or as an object of a client library,
    or its stream: such things one after the other, or its lines or whole text; the last events are
    enough, of Anthropic's also the first. The dialects are OpenAI's (chat completions, completions,
    responses, embeddings), Anthropic's (messages), llama.cpp's, Ollama's and vLLM's.

    ``timestamp`` is when the response says it was made; None where it does not. Where it says
    nothing of a cache, ``cache_n`` is 0 and ``prompt_n`` all of the input. ``duration`` and
    ``first_token`` are None where the server tells no times.

    Raises InvalidDataError for what does not say its tokens, is not finished or contradicts itself.
    """
    facts = facts_of(obj)
    for name in ("done", "stop"):
        if facts.get(name) is False:
            raise InvalidDataError(f"the response is not finished: {name} is false")
    used, made, cached, computed = counts(facts)
    duration, first_token = times(facts)
    return ResponseUsage(
        timestamp_of(facts), used, made, cached, computed, duration, first_token if made else None
    )


def add_response(
    dm: DataManager,
    model_name: str,
    obj: object,
    timestamp: Moment | None,
    request_id: str | None,
) -> int | None:
    usage = usage_from_response(obj)
    at = to_moment(timestamp, "timestamp")
    if at is None:
        at = time.time() if usage.timestamp is None else usage.timestamp
    return dm.add_model_request(
        model_name,
        [at, *usage[1:5]],
        duration=usage.duration,
        first_token=usage.first_token,
        request_id=request_id,
    )

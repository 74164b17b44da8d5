"""How many tokens a response says came in and went out."""

from __future__ import annotations

from collections.abc import Iterable

from datamanager._core import InvalidDataError
from datamanager.responses.facts import Facts, at, shown
from datamanager.usage import TOKENS_MAX

# What each field counts. Where a response has several of one meaning, they must agree. llama.cpp's
# tokens_cached is not here: the README calls it the reused part of the prompt, but the server fills
# in all that its cache holds in the end, output too.
_MEANINGS = {
    "input_tokens": (
        "usage.prompt_tokens",
        "usage.input_tokens",
        "prompt_eval_count",
        "tokens_evaluated",
    ),
    "output_tokens": (
        "usage.completion_tokens",
        "usage.output_tokens",
        "eval_count",
        "tokens_predicted",
        "timings.predicted_n",
    ),
    "cache_n": (
        "usage.prompt_tokens_details.cached_tokens",
        "usage.input_tokens_details.cached_tokens",
        "usage.cache_read_input_tokens",
        "prompt_eval_cached_count",
        "timings.cache_n",
    ),
    "prompt_n": ("timings.prompt_n",),
    "total": ("usage.total_tokens",),
}
# Anthropic's input_tokens are those neither read from the cache nor written to it.
_ANTHROPIC = ("usage.cache_read_input_tokens", "usage.cache_creation_input_tokens")


def _tokens(facts: Facts, path: str) -> int | None:
    value = at(facts, path)
    if value is None or (type(value) is int and 0 <= value <= TOKENS_MAX):
        return value
    raise InvalidDataError(
        f"{path} must be a whole number from 0 to {TOKENS_MAX}, not {shown(value)}"
    )


def _agreed(facts: Facts, paths: Iterable[str]) -> int | None:
    found = [(path, value) for path in paths if (value := _tokens(facts, path)) is not None]
    for path, value in found[1:]:
        if value != found[0][1]:
            raise InvalidDataError(f"{path} is {value}, but {found[0][0]} is {found[0][1]}")
    return found[0][1] if found else None


def _in_one_dialect(facts: Facts) -> Facts:
    """The same with one name for each count, and with an input that counts what was cached."""
    if _tokens(facts, "usage.prompt_tokens") is not None:
        # Gateways add the names of OpenAI's responses to its chat completions, as zeros.
        other = ("input_tokens", "output_tokens")
        usage = {name: value for name, value in facts["usage"].items() if name not in other}
        return {**facts, "usage": usage}
    uncached = _tokens(facts, "usage.input_tokens")
    cached = [_tokens(facts, path) for path in _ANTHROPIC]
    if uncached is None or cached == [None, None]:
        return facts
    if at(facts, "usage.input_tokens_details") is not None:
        raise InvalidDataError(
            f"usage.input_tokens is {uncached}, without what was cached where there is"
            f" {_ANTHROPIC[0]}, but with it where there is usage.input_tokens_details"
        )
    whole = uncached + sum(tokens or 0 for tokens in cached)
    return {**facts, "usage": {**facts["usage"], "input_tokens": whole}}


def _missing(facts: Facts, meaning: str) -> InvalidDataError:
    error = f" but an error, {shown(facts['error'])}" if "error" in facts else ""
    fields = ", ".join(_MEANINGS[meaning])
    hint = '; a stream needs stream_options={"include_usage": true}' if "choices" in facts else ""
    return InvalidDataError(
        f"the response has no {meaning}{error}: there is none of {fields}{hint}"
    )


def counts(facts: Facts) -> tuple[int, int, int, int]:
    """Input, output, cached and computed: as the response says or as follows from the others."""
    facts = _in_one_dialect(facts)
    given = {meaning: _agreed(facts, paths) for meaning, paths in _MEANINGS.items()}
    used, made, cached, computed, total = given.values()
    if used is None and cached is not None and computed is not None:
        used = cached + computed
    if used is None:
        raise _missing(facts, "input_tokens")
    if made is None and "prompt_eval_count" in facts:
        made = 0  # Ollama leaves out what is 0
    if made is None and total is not None:
        made = max(total - used, 0)  # embeddings
    if made is None:
        raise _missing(facts, "output_tokens")
    if total not in (None, used + made):
        raise InvalidDataError(
            f"usage.total_tokens is {total}, but {used} came in, {made} went out"
        )
    if cached is None:
        cached = 0 if computed is None else used - computed
    if computed is None:
        computed = used - cached
    if cached + computed != used or min(cached, computed) < 0:
        said = ", ".join(f"{name} {value}" for name, value in given.items() if value is not None)
        raise InvalidDataError(f"the response contradicts itself: {said}")
    return used, made, cached, computed

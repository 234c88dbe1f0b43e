"""What a parsed body may ask for. Nothing here changes it: fields pass, are named for `strip`,
or the request is refused with the reason."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from serve_apps.api_error import ApiError
from serve_apps.guard.fields import DECIDED, FIXED, REASONS, TEMPLATE_OWN
from serve_apps.guard.grammar import check_grammar
from serve_apps.guard.media import check_media
from serve_apps.guard.settings import BodyLimits, GuardSettings

LISTS = (
    "stop_token_ids", "bad_words", "allowed_token_ids", "logprob_token_ids", "logit_bias",
    "documents", "tools", "metadata",
)  # fmt: skip
GRAMMARS = (
    "structured_outputs", "response_format", "tools", "guided_json", "guided_regex",
    "guided_choice", "guided_grammar", "guided_whitespace_pattern", "structural_tag",
)  # fmt: skip

SPECIAL = frozenset((*FIXED, *DECIDED))
"""All else passes, unless the operator says otherwise."""
RARE = frozenset((*LISTS, *GRAMMARS, "stop"))
"""Most bodies have none of these, and are looked at no further."""

LENGTHS = ("max_tokens", "max_completion_tokens", "min_tokens")
WIDTHS = ("n", "best_of")
LOGPROBS = ("logprobs", "top_logprobs", "prompt_logprobs")
COUNTS = frozenset((*WIDTHS, *LOGPROBS))
"""As rare, and looked at only where there is one."""


def clean(fields: Mapping[str, Any], settings: GuardSettings) -> tuple[str, ...]:
    """The top-level keys that must not reach the engine; usually none.

    Raises:
        ApiError: 400, naming the field that is refused or beyond its limit.
    """
    dropped: tuple[str, ...] = ()
    if not (SPECIAL.isdisjoint(fields) and settings.fields.keys().isdisjoint(fields)):
        dropped = tuple([key for key in fields if _drops(key, fields[key], settings)])
    limits = settings.body
    if limits.max_output_tokens is not None:
        for name in LENGTHS:
            _at_most(fields, name, limits.max_output_tokens)
    if not COUNTS.isdisjoint(fields):
        _check_counts(fields, limits)
    if not RARE.isdisjoint(fields):
        _check_lists(fields, limits)
        for name in GRAMMARS:
            if fields.get(name) is not None:
                check_grammar(name, fields[name], limits)
    _check_prompts(fields, limits)
    messages = fields.get("messages")
    if isinstance(messages, list):
        check_media(messages, limits, urls=settings.media_urls)
    return dropped


def _drops(key: str, value: Any, settings: GuardSettings) -> bool:
    action = settings.action(key)
    if action == "refuse" and value not in (None, {}, []):
        mend = "leave it out"
        if key not in FIXED:
            mend += f", or have the operator set guard.fields.{key}: pass"
        why = REASONS.get(key, "the operator of this service does not take it")
        raise bad(key, f"{key!r} is not taken here: {why}; {mend}", "field_not_allowed")
    if key == "chat_template_kwargs" and isinstance(value, dict):
        own = sorted(TEMPLATE_OWN & value.keys())
        if own:
            message = f"{key}.{own[0]} would replace what the engine itself sets; leave it out"
            raise bad(key, message, "field_not_allowed")
    return action != "pass"


def _check_counts(fields: Mapping[str, Any], limits: BodyLimits) -> None:
    for name in WIDTHS:
        _at_most(fields, name, limits.max_n, least=1)
    for name in LOGPROBS:  # -1 asks for the vocabulary
        _at_most(fields, name, limits.max_logprobs)


def _at_most(fields: Mapping[str, Any], name: str, most: int, least: int = 0) -> None:
    value = fields.get(name)
    if value is None or isinstance(value, bool):
        return
    if not isinstance(value, int | float):
        raise bad(name, f"{name!r} is a {type(value).__name__}, expected a whole number")
    if not least <= value <= most:
        shown = str(value)[:20]
        raise bad(name, f"{name!r} is {shown}, expected {least} to {most:,} on this service")


def _check_lists(fields: Mapping[str, Any], limits: BodyLimits) -> None:
    for name in LISTS:
        value = fields.get(name)
        if isinstance(value, list | dict) and len(value) > limits.max_list:
            raise too_many(name, len(value), limits.max_list, "entries")
    stop = fields.get("stop")
    stops = stop if isinstance(stop, list) else [stop]
    if len(stops) > limits.max_stops:
        raise too_many("stop", len(stops), limits.max_stops, "entries")
    longest = max((len(s) for s in stops if isinstance(s, str)), default=0)
    if longest > limits.max_stop_chars:
        raise too_many("stop", longest, limits.max_stop_chars, "characters in one entry")


def _check_prompts(fields: Mapping[str, Any], limits: BodyLimits) -> None:
    prompts = _prompts(fields.get("prompt"))
    if prompts > limits.max_prompts:
        raise too_many("prompt", prompts, limits.max_prompts, "prompts")
    wide = 1
    if not COUNTS.isdisjoint(fields):
        wide = max((w for w in map(fields.get, WIDTHS) if isinstance(w, int)), default=1)
    if prompts * wide > limits.max_sequences:
        raise too_many("prompt", prompts * wide, limits.max_sequences, "prompts times n")
    messages = fields.get("messages")
    if isinstance(messages, list) and len(messages) > limits.max_messages:
        raise too_many("messages", len(messages), limits.max_messages, "messages")


def _prompts(prompt: Any) -> int:
    """How many prompts there are: one list of token ids is one."""
    if isinstance(prompt, list) and prompt and not _is_tokens(prompt):
        return len(prompt)
    return 1


def _is_tokens(prompt: Iterable[Any]) -> bool:
    return isinstance(next(iter(prompt)), int)


def bad(param: str, message: str, code: str = "invalid_value") -> ApiError:
    """A field that is refused."""
    return ApiError(400, message, param=param, code=code)


def too_many(param: str, found: int, most: int, what: str) -> ApiError:
    """A field that is beyond its limit."""
    return bad(param, f"{param!r} has {found:,} {what}, expected at most {most:,} on this service")

"""What an operator may set of the guard: ``gateway.guard``, and what the ingress is given."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from profiler.core import Count, Noun, Positive
from profiler.errors import InputError
from serve_apps.guard.fields import DECIDED, FIXED, Action
from serve_apps.guard.prices import TokenPrice


class BodyLimits(Noun):
    """How large and how intricate a request may be."""

    max_bytes: Count = 32 * 1024 * 1024
    max_depth: Count = Field(64, description="nesting of lists and mappings")
    max_values: Count = Field(500_000, description="entries of all lists and mappings; token ids")
    max_strings: Count = Field(100_000, description="texts, keys of mappings too")
    max_containers: Count = Field(50_000, description="lists and mappings")
    max_number_chars: Count = 64
    max_messages: Count = 2_048
    max_parts: Count = Field(256, description="content parts of one message")
    max_prompts: Count = Field(128, description="prompts in one completion request")
    max_sequences: Count = Field(128, description="prompts times the larger of n and best_of")
    max_output_tokens: Count | None = Field(
        None, description="ceiling of max_tokens; without it, the engine's context length is one"
    )
    max_n: Count = Field(16, description="n, best_of")
    max_logprobs: Count = Field(20, description="logprobs, top_logprobs, prompt_logprobs")
    max_list: Count = Field(
        1_024, description="entries of logit_bias, stop_token_ids, bad_words and their like"
    )
    max_stops: Count = 32
    max_stop_chars: Count = 512
    max_grammar_bytes: Count = Field(
        65_536, description="structured_outputs, response_format, tools"
    )
    max_regex_chars: Count = 1_024
    max_repeat: Count = Field(
        10_000, description="repetitions asked for in a regex or schema: {n,m}, maxLength, ..."
    )
    max_media: Count = Field(32, description="images, videos and sounds in one request")
    max_media_bytes: Count = Field(20 * 1024 * 1024, description="one data: URL or sound, encoded")


class GuardSettings(Noun):
    """The section ``gateway.guard``. Paths are relative to the file it stands in."""

    keys: str | None = Field(
        None, description="file made by `orchestrator keys create`; without it nobody is asked"
    )
    allow_anonymous: bool = Field(
        False, description="listen beyond this machine without keys: everybody is served"
    )
    usage: str | None = Field(
        None,
        description="directory in which the ingresses of this host keep and share what was used; "
        "without it limits start anew with each start, and each ingress gives out its share",
    )
    ingresses: Count = Field(1, description="how many share the limits where `usage` is not set")
    sync_s: float = Field(
        1.0, ge=0.1, le=60, description="how often the keys file is looked at, and usage shared"
    )
    default_deadline_s: Positive | None = Field(
        None,
        description="seconds to the first byte, of requests that name no deadline and whose key "
        "has none; without it, the planned target",
    )
    body: BodyLimits = BodyLimits()
    fields: dict[str, Action] = Field(
        default_factory=dict, description="body field -> pass, drop or refuse; see docs/security.md"
    )
    media_urls: bool = Field(
        False, description="let http(s) media URLs through; the engine fetches them, we never do"
    )
    open_metrics: bool = Field(
        False, description="/metrics needs no admin key: for scrapers inside a closed network"
    )
    trace_headers: bool = Field(False, description="believe the client's traceparent")
    origins: tuple[str, ...] = Field(
        (), description="web pages, such as https://ops.example.com, that may make admin calls"
    )
    prices: dict[str, TokenPrice] = Field(
        default_factory=dict, description="model -> what its tokens are charged, for budgets"
    )

    @model_validator(mode="after")
    def _fields_are_open(self) -> Self:
        for name, action in self.fields.items():
            if name in FIXED and action != FIXED[name]:
                raise ValueError(f"fields: {name!r} is always {_DONE[FIXED[name]]}; remove it here")
        return self

    def at(self, directory: str | Path) -> GuardSettings:
        """The same with absolute paths: what a deploy target gives the ingress."""
        base = Path(directory).resolve()
        paths = {"keys": self.keys, "usage": self.usage}
        return self.model_copy(update={k: str(base / v) for k, v in paths.items() if v is not None})

    def action(self, name: str) -> Action:
        """What is done with a top-level field of a body; unknown ones belong to the engine."""
        return FIXED.get(name) or self.fields.get(name) or DECIDED.get(name, "pass")


def check_exposure(settings: GuardSettings, host: str) -> None:
    """Before listening on ``host``: nobody serves the world by mistake.

    Raises:
        InputError: it is beyond this machine, there are no keys, and nothing says that this is so
            on purpose.
    """
    if settings.keys is not None or settings.allow_anonymous or is_loopback(host):
        return
    raise InputError(
        f"listening on {host} without API keys would serve everybody who reaches it; make a key "
        "with `orchestrator keys create --tenant NAME --file keys.yaml` and name the file with "
        "--keys keys.yaml (or gateway.guard.keys in the service file), or say that it is meant "
        "with --open (gateway.guard.allow_anonymous: true)"
    )


def is_loopback(host: str) -> bool:
    """Whether an address or name is this machine's alone."""
    name = host.strip("[]").partition("%")[0]
    if name.casefold().rstrip(".") == "localhost":
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


_DONE: dict[Action, Literal["passed", "dropped", "refused"]] = {
    "pass": "passed",
    "drop": "dropped",
    "refuse": "refused",
}

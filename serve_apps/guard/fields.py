"""Which top-level fields of a body reach the engine.

What is not named here passes: the engine knows its own API. Three kinds are named:

- words about routing and credentials, which some gateways obey: no request changes where it goes,
  so they are dropped wherever they come from;
- fields by which one client could reach into the engine or into another client's requests;
- fields that make the engine run, fetch or unpickle what a client wrote.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

Action = Literal["pass", "drop", "refuse"]

ROUTING = (
    "api_base", "base_url", "api_url", "api_key", "api_version", "azure_endpoint", "endpoint",
    "url", "host", "proxy", "custom_llm_provider", "provider", "deployment_id", "organization",
    "model_list", "fallbacks", "context_window_fallbacks", "mock_response", "extra_headers",
    "extra_body", "extra_query", "headers", "default_headers", "callbacks", "success_callback",
    "failure_callback", "webhook_url", "callback_url", "aws_access_key_id",
    "aws_secret_access_key", "aws_region_name", "vertex_credentials", "litellm_params",
    "bootstrap_host", "bootstrap_port", "bootstrap_room",
)  # fmt: skip
"""Of other gateways and SDKs. They mean nothing here, and shall mean nothing further on."""

FIXED: Mapping[str, Action] = {
    **dict.fromkeys(ROUTING, "drop"),
    "priority": "drop",  # of the key, not of what a client claims
    "request_id": "drop",  # ours; another's id would reach into another's request
    "kv_transfer_params": "refuse",  # names a host that the engine connects to
    "ec_transfer_params": "refuse",
    "prompt_embeds": "refuse",  # the engine unpickles tensors
    "logits_processors": "refuse",  # names code to import
}
"""No setting changes these."""

DECIDED: Mapping[str, Action] = {
    "session_id": "drop",  # of the engine; ours is the header x-session-id or prompt_cache_key
    "chat_template": "refuse",  # a program that the engine runs
    "chat_template_kwargs": "refuse",
    "mm_processor_kwargs": "refuse",  # sizes that an image or video is blown up to
    "media_io_kwargs": "refuse",
    "vllm_xargs": "refuse",  # arguments of plugins
    "cache_salt": "pass",  # sets its sender's prefixes apart from all others'; takes nothing
}
"""As they are unless the setting ``guard.fields`` says otherwise."""

REASONS: Mapping[str, str] = {
    "kv_transfer_params": "it makes an engine connect elsewhere",
    "ec_transfer_params": "it makes an engine connect elsewhere",
    "prompt_embeds": "engines unpickle it",
    "logits_processors": "it names code to run",
    "chat_template": "it is a program that the engine would run",
    "chat_template_kwargs": "it reaches into the program that lays out the prompt",
    "mm_processor_kwargs": "it sizes what the engine computes of media",
    "media_io_kwargs": "it sizes what the engine reads of media",
    "vllm_xargs": "it is for plugins of the engine",
}
"""Why a field is refused, for the client."""

TEMPLATE_OWN = frozenset(
    {"chat_template", "tokenize", "messages", "conversation", "tools", "add_generation_prompt"}
)
"""Keys of ``chat_template_kwargs`` that would replace what the engine itself passes."""

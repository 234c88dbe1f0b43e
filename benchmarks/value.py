"""Tokens per dollar of A10G and A100 for Llama-2-7B, beside what Melange measured.

    python -m benchmarks.value

Published (Griggs et al., 2024, arXiv 2404.14527, section 4): A10G gives up to 2.6x the tokens per
dollar of A100-80GB for small requests, A100 up to 1.5x for large ones; A10G $1.01/h, A100 $3.67/h,
mean TPOT limits of 40 to 120 ms, vLLM 0.2.7, no limit on TTFT.

Ours are computed, twice: with the step overhead of today's engine, and with that of an engine
of that time, whose API server and scheduler took 62 % of each step to the GPU's 38 % (vLLM's own
breakdown of 0.5.3: Llama-3-8B on an H100, September 2024). The last line is JSON.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from profiler.catalog import load_catalog
from profiler.core import EngineOptions, ModelSpec, Profile, Slo
from profiler.roofline import DoesNotFit, roofline_profile
from profiler.value import Offer, Size, ValueTable, value_table

USD_PER_HOUR = {"A10G": 1.01, "A100-80GB": 3.67}
PUBLISHED = {"a10g_over_a100_small": 2.6, "a100_over_a10g_large": 1.5}
TPOT_S = (0.04, 0.08, 0.12)
UNLIMITED_S = 3600.0
TOKENS = (25, 100, 250, 500, 1000, 2000)
SIZES = tuple(Size(input_tokens=i, output_tokens=o) for i in TOKENS for o in TOKENS)

LLAMA_2_7B = ModelSpec(
    name="llama-2-7b",
    weights="meta-llama/Llama-2-7b-hf",
    total_params=6_738_415_616,
    active_params=6_738_415_616,
    layers=32,
    hidden_size=4096,
    kv_heads=32,
    head_dim=128,
    context_tokens=4096,
    weight_dtype="fp16",
    kv_dtype="fp16",
)
ENGINE = EngineOptions(max_num_seqs=256, max_num_batched_tokens=4096)
"""vLLM 0.2.7's defaults: a prompt was prefilled whole, up to the context length in one step."""


@dataclass(frozen=True)
class Setting:
    """One engine and TPOT limit, and the best lead of either GPU over the sizes."""

    engine: str
    tpot_s: float
    small: float
    small_size: Size
    large: float
    large_size: Size


def host_s_per_sequence() -> float:
    """What an engine of that time spent outside the GPU, per sequence and step.

    62/38 of the GPU's own step, for the case that vLLM's breakdown is of, at a full batch of 256
    requests of ShareGPT's mean length (about 200 tokens in and 200 out).
    """
    catalog = load_catalog()
    found = roofline_profile(catalog.model("llama-3.1-8b"), catalog.gpu("H100"))
    assert isinstance(found, Profile)
    step = found.step_time(0, 256, 256 * 300)
    return step * 62 / 38 / 256


def profiles(*, host_s: float) -> list[Profile]:
    """Both GPUs' computed profiles, with so many host seconds per sequence and step on top."""
    catalog = load_catalog()
    found = []
    for gpu in USD_PER_HOUR:
        computed = roofline_profile(LLAMA_2_7B, catalog.gpu(gpu), 1, ENGINE)
        if isinstance(computed, DoesNotFit):
            raise AssertionError(computed.reason)
        law = computed.step_time
        slower = law.model_copy(update={"per_sequence_s": law.per_sequence_s + host_s})
        found.append(computed.model_copy(update={"step_time": slower}))
    return found


def table(of: Sequence[Profile], tpot_s: float) -> ValueTable:
    """Tokens per dollar under a limit on mean TPOT."""
    slo = Slo(ttft_s=UNLIMITED_S, tpot_s=tpot_s, attainment=0.5)
    offers = [Offer(p, "on_demand", USD_PER_HOUR[p.config.gpu]) for p in of]
    return value_table(offers, slo, SIZES)


def leads(engine: str, of: Sequence[Profile], tpot_s: float) -> Setting:
    """How far each GPU is ahead where it is most; sizes that only one can serve do not count."""
    found = table(of, tpot_s)
    ratio = {}
    for size in SIZES:
        cells = {c.gpu: c.tokens_per_usd for c in found.row(LLAMA_2_7B.name, "on_demand", size)}
        if all(cells.values()):
            ratio[size] = cells["A10G"] / cells["A100-80GB"]
    small, large = max(ratio, key=lambda s: ratio[s]), min(ratio, key=lambda s: ratio[s])
    return Setting(engine, tpot_s, ratio[small], small, 1 / ratio[large], large)


def settings() -> list[Setting]:
    """Every engine x TPOT limit."""
    engines = {"today's": 0.0, "of the time": host_s_per_sequence()}
    return [
        leads(name, profiles(host_s=host_s), tpot_s)
        for name, host_s in engines.items()
        for tpot_s in TPOT_S
    ]


def main() -> None:
    """Compute and print."""
    found = settings()
    print(f"host time of the engine of that time: {host_s_per_sequence() * 1e6:.0f} us/sequence")
    print("engine        TPOT      A10G / A100 at most     A100 / A10G at most")
    for s in found:
        print(
            f"{s.engine:12} {s.tpot_s * 1e3:4.0f} ms   {s.small:6.2f} at {s.small_size!s:12}"
            f"   {s.large:6.2f} at {s.large_size!s:12}"
        )
    print(
        f"{'published':12}  40-120   up to {2.6:.1f} for small requests, {1.5:.1f} for large ones"
    )
    then = [s for s in found if s.engine == "of the time"]
    now = [s for s in found if s.engine != "of the time"]
    figures = {
        "a10g_over_a100_small": round(max(s.small for s in then), 3),
        "a100_over_a10g_large": round(max(s.large for s in then), 3),
        "a10g_over_a100_small_today": round(max(s.small for s in now), 3),
        "a100_over_a10g_large_today": round(max(s.large for s in now), 3),
        **{f"published_{name}": value for name, value in PUBLISHED.items()},
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()

"""A roofline profile follows from catalog numbers, and says why a model does not fit."""

import pytest

from profiler.capacity import Replica
from profiler.core import Profile
from profiler.efficiency import calibration
from profiler.roofline import DoesNotFit, Efficiency, default_engine, roofline_profile, step_time
from tests.builders import fitted, gpu, model, slo

PEAK = Efficiency(compute=1, bandwidth=1, link=1, step_overhead_s=0, allreduce_latency_s=0)
H100 = gpu("H100", bandwidth_gb_per_s=3350, fp16_tflop_per_s=989)


@pytest.mark.parametrize(
    ("on", "decode_ms"),
    [
        (H100, 4.8),
        (gpu("A100"), 7.9),
        (gpu("A10G", memory_gb=24, bandwidth_gb_per_s=600, fp16_tflop_per_s=70), 26.8),
        (gpu("L4", memory_gb=24, bandwidth_gb_per_s=300, fp16_tflop_per_s=121), 53.5),
    ],
)
def test_a_lone_decode_step_at_peak_reads_the_weights_once(on, decode_ms):
    law = step_time(model(), on, 1, PEAK)
    assert law.base_s * 1e3 == pytest.approx(decode_ms, rel=0.02)


@pytest.mark.parametrize(("on", "prefill_ms"), [(H100, 16.6), (gpu("A100"), 52.7)])
def test_prefill_at_peak_is_bound_by_flops(on, prefill_ms):
    law = step_time(model(), on, 1, PEAK)
    assert law.per_prefill_token_s * 1024 * 1e3 == pytest.approx(prefill_ms, rel=0.02)


@pytest.mark.parametrize(
    ("on", "published_rps"),
    [
        (gpu("L40S", memory_gb=48, bandwidth_gb_per_s=864, fp16_tflop_per_s=362), 4.46),
        (gpu("A100"), 8.98),
        (H100, 24.6),
        (gpu("H200", memory_gb=141, bandwidth_gb_per_s=4800, fp16_tflop_per_s=989), 27.3),
    ],
)
def test_rates_come_near_published_measurements(on, published_rps):
    """Llama-3.1-8B, 1024 in, 256 out, TTFT 2 s, TPOT 60 ms; the published figures are means."""
    replica = Replica(fitted(model(), on), [1024.0], [256.0])
    assert replica.max_rate_rps(slo(attainment=0.5))[0] == pytest.approx(published_rps, rel=0.16)


def test_memory_counts_weights_kv_cache_and_overhead():
    profile = fitted(model(), gpu("A100", memory_gb=80))
    free_bytes = (80 * 0.9 - 1.5) * 1e9 - 2 * 8_030_261_248
    assert profile.kv_capacity_tokens == int(free_bytes / (2 * 8 * 128 * 32 * 2))


def test_a_model_too_large_says_what_it_needs_and_what_there_is():
    found = roofline_profile(model(total_params=70_000_000_000), gpu("L4", memory_gb=24))
    assert isinstance(found, DoesNotFit)
    assert found.reason == "does not fit: needs 140 GB, 1 x L4 offers 20 GB"


def test_tensor_parallelism_shares_the_weights_and_pays_for_the_link():
    big = model(total_params=70_000_000_000, active_params=70_000_000_000, layers=80)
    nvlink = gpu(link="nvlink", link_gb_per_s=300)
    pcie = gpu(link="pcie", link_gb_per_s=25)
    two, four = fitted(big, nvlink, 4), fitted(big, nvlink, 8)
    slow = fitted(big, pcie, 4)
    assert isinstance(roofline_profile(big, nvlink, 1), DoesNotFit)
    assert four.step_time.base_s < two.step_time.base_s
    assert slow.step_time.per_prefill_token_s > 1.5 * two.step_time.per_prefill_token_s
    assert four.kv_capacity_tokens > two.kv_capacity_tokens


def test_kv_heads_fewer_than_gpus_are_copied():
    few = model(kv_heads=2)
    assert fitted(few, gpu(), 8).kv_capacity_tokens < 4 * fitted(few, gpu(), 2).kv_capacity_tokens


def test_the_error_bar_is_that_of_the_gpus_generation():
    hopper, unknown = fitted(model(), H100).provenance, fitted(model(), gpu("X1")).provenance
    assert hopper.tpot_error == calibration().generations["hopper"].held_out.tpot
    assert unknown.tpot_error == calibration().generations["other"].held_out.tpot
    assert roofline_profile(model(), gpu(), efficiency=PEAK).provenance.tpot_error is None


MOE = model("moe", total_params=40_000_000_000, active_params=10_000_000_000)
MOE = MOE.model_copy(update={"experts": 32, "experts_per_token": 2})


def test_a_lone_token_reads_its_own_experts_and_a_large_batch_reads_all():
    assert MOE.touched_params(1) == pytest.approx(MOE.active_params)
    assert MOE.touched_params(1000) == pytest.approx(MOE.total_params)
    law = step_time(MOE, H100, 1, PEAK, sequences=1)
    assert law.base_s == pytest.approx(2 * MOE.active_params / 3350e9)
    assert law.per_prefill_token_s == pytest.approx(2 * MOE.active_params / 989e12)


def test_one_line_stands_for_the_experts_curve():
    law = step_time(MOE, H100, 1, PEAK)
    for n in (1, 4, 16, 64, 256):
        exact = step_time(MOE, H100, 1, PEAK, sequences=n)
        assert law(0, n, 0) == pytest.approx(exact(0, n, 0), rel=0.6)
    assert law(0, 64, 0) > 1.5 * law(0, 1, 0)


def test_a_latent_cache_is_small_and_copied_to_every_gpu():
    plain, latent = model(), model(kv_latent_dim=576)
    assert latent.kv_bytes_per_token == 576 * 32 * 2
    per_token = [step_time(m, H100, 8, PEAK).per_kv_token_s for m in (plain, latent)]
    assert per_token[0] == pytest.approx(plain.kv_bytes_per_token / 3350e9 / 8)
    assert per_token[1] == pytest.approx(latent.kv_bytes_per_token / 3350e9)


def test_eight_bit_weights_halve_the_reading_and_double_the_rate_where_the_gpu_can():
    narrow = model(weight_dtype="fp8")
    with_units = gpu("H100", fp16_tflop_per_s=989, fp8_tflop_per_s=1978)
    law, without = (step_time(narrow, g, 1, PEAK) for g in (with_units, gpu("A100")))
    full = step_time(model(), with_units, 1, PEAK)
    assert law.base_s == pytest.approx(full.base_s / 2)
    assert law.per_prefill_token_s == pytest.approx(full.per_prefill_token_s / 2)
    assert without.per_prefill_token_s == pytest.approx(2 * narrow.active_params / 312e12)


def test_cards_on_pcie_share_the_path_of_their_host():
    slow = gpu(link="pcie", link_gb_per_s=32)
    two, eight = (step_time(model(), slow, k, PEAK).per_prefill_token_s for k in (2, 8))
    alone = step_time(model(), slow, 1, PEAK).per_prefill_token_s
    assert eight - alone / 8 == pytest.approx(7 * (two - alone / 2))


def test_large_cards_get_vllms_larger_batches():
    assert default_engine(H100).max_num_batched_tokens == 8192
    assert default_engine(gpu("A100-80GB")).max_num_batched_tokens == 2048


def test_the_estimate_is_labelled():
    profile = roofline_profile(model(), gpu())
    assert isinstance(profile, Profile)
    assert profile.provenance.kind == "roofline"
    assert "estimated" in (profile.provenance.note or "")

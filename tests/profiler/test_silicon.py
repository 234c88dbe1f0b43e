"""A look-up gives a labelled profile, or says what the database lacks and what is nearest."""

from importlib import metadata

import pytest

from profiler import silicon
from profiler.catalog import load_catalog
from profiler.core import Profile
from profiler.errors import InputError
from profiler.roofline import DoesNotFit
from profiler.silicon import NoData, silicon_or_roofline, silicon_profile

CATALOG = load_catalog()
LLAMA, H100 = CATALOG.model("llama-3.1-8b"), CATALOG.gpu("H100")
A100 = CATALOG.gpu("A100-80GB")


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "llm-orchestrator" / "silicon"


def test_without_the_extra_the_message_says_how_to_get_it(monkeypatch):
    def missing(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", missing)
    with pytest.raises(InputError, match=r"pip install 'llm-orchestrator\[silicon\]'"):
        silicon_profile(LLAMA, H100)


class TestWithTheDatabase:
    @pytest.fixture(autouse=True)
    def _installed(self):
        pytest.importorskip("aiconfigurator_core", reason="needs the extra silicon")

    @pytest.mark.slow
    def test_a_profile_is_labelled_and_near_the_roofline(self):
        found = silicon_profile(LLAMA, H100)
        assert isinstance(found, Profile)
        source = found.provenance
        assert source.kind == "silicon"
        assert source.engine.startswith("aiconfigurator-core 0.12")
        assert source.points > 15
        assert source.tpot_error < 0.1
        # 16 GB at 3.35 TB/s is 4.8 ms: below it no true step can be.
        assert 0.0048 < found.step_time.base_s < 0.008

    @pytest.mark.slow
    def test_the_second_look_up_comes_from_the_cache(self, cache, monkeypatch):
        first = silicon_profile(LLAMA, A100)
        assert len(list(cache.glob("*.json"))) == 1
        monkeypatch.setattr(silicon, "open_engine", None)
        assert silicon_profile(LLAMA, A100) == first

    @pytest.mark.slow
    def test_a_broken_cache_file_is_looked_up_again(self, cache):
        first = silicon_profile(LLAMA, A100)
        (file,) = cache.glob("*.json")
        file.write_text("{")
        assert silicon_profile(LLAMA, A100) == first

    @pytest.mark.parametrize(
        ("gpu", "nearest"), [("A100-40GB", "A100-80GB"), ("L4", "L40S"), ("A10G", "A100-80GB")]
    )
    def test_a_gpu_it_lacks_is_named_with_the_nearest(self, gpu, nearest):
        found = silicon_profile(LLAMA, CATALOG.gpu(gpu))
        assert isinstance(found, NoData)
        assert gpu in found.reason
        assert nearest in found.reason

    def test_a_model_it_lacks_is_named_with_the_nearest_in_size(self):
        found = silicon_profile(CATALOG.model("qwen2.5-7b"), H100)
        assert isinstance(found, NoData)
        assert "qwen2.5-7b" in found.reason
        assert "Llama-3.1-8B" in found.reason

    def test_a_model_that_does_not_fit_is_no_question_to_it(self):
        assert isinstance(silicon_profile(CATALOG.model("llama-3.1-70b"), H100), DoesNotFit)

    def test_a_plan_falls_back_to_the_roofline_and_says_so(self):
        found = silicon_or_roofline(LLAMA, CATALOG.gpu("L4"))
        assert isinstance(found, Profile)
        assert found.provenance.kind == "roofline"
        assert "no kernels of L4" in found.provenance.note

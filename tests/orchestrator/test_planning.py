"""A service chooses what stands in for profiles it does not have: the roofline or the database."""

from pathlib import Path

import pytest

from orchestrator.loading import load_service
from orchestrator.planning import build_problem

SERVICE = """\
name: chat
models: [{model: llama-3.1-8b, tensor_parallel: [1]}]
gpus: [{type: A100-80GB}, {type: L4}]
slo: {ttft_s: 2.0, tpot_s: 0.08}
workload: {rate_rps: 2.0, sizes: azure-chat}
"""


def kinds(tmp_path: Path, text: str) -> dict[str, str]:
    path = tmp_path / "service.yaml"
    path.write_text(text, encoding="utf-8")
    problem = build_problem(load_service(path))
    return {o.gpu: o.profile.provenance.kind for o in problem.options}


def test_the_roofline_is_the_default(tmp_path: Path) -> None:
    assert kinds(tmp_path, SERVICE) == {"A100-80GB": "roofline", "L4": "roofline"}


def test_the_database_answers_where_it_can(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("aiconfigurator_core", reason="needs the extra silicon")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    found = kinds(tmp_path, f"{SERVICE}estimates: silicon\n")
    assert found == {"A100-80GB": "silicon", "L4": "roofline"}

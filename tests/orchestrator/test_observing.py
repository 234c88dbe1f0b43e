"""What Prometheus and Grafana are given, as files; the docs have the reference of the code."""

import json
from pathlib import Path

import yaml

from orchestrator.observing import RULES, SCRAPE, rendered
from serve_apps.seeing.reference import alerts_list, labels_table, metrics_table

DOCS = Path(__file__).parents[2] / "docs" / "observability.md"


def test_every_file_reads_back():
    texts = rendered("http://pool:8000")
    assert {RULES, SCRAPE} < set(texts)
    assert yaml.safe_load(texts[RULES])["groups"]
    jobs = yaml.safe_load(texts[SCRAPE])["scrape_configs"]
    assert all(job["http_sd_configs"][0]["url"].startswith("http://pool:8000/") for job in jobs)
    assert sum(name.startswith("grafana/") for name in texts) == 3
    for name, text in texts.items():
        if name.endswith(".json"):
            assert json.loads(text)["panels"]


def test_render_writes_once_and_never_over_what_was_changed(orchestrate, tmp_path):
    where = tmp_path / "out"
    assert orchestrate("observe", "render", "-d", str(where)).returncode == 0
    assert orchestrate("observe", "render", "-d", str(where)).returncode == 0
    (where / RULES).write_text("mine")
    done = orchestrate("observe", "render", "-d", str(where))
    assert done.returncode == 2
    assert "pass -y to replace it" in done.stderr
    assert (where / RULES).read_text() == "mine"
    assert orchestrate("observe", "render", "-d", str(where), "-y").returncode == 0
    assert (where / RULES).read_text() != "mine"


def test_metrics_are_listed(orchestrate):
    found = json.loads(orchestrate("observe", "metrics", "-o", "json").stdout)
    assert "orchestrator_requests" in {m["name"] for m in found}


def test_the_docs_have_the_reference_that_the_code_makes():
    text = DOCS.read_text(encoding="utf-8")
    for part in (metrics_table(), labels_table(), alerts_list()):
        assert part in text

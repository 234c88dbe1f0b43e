"""Dashboards, alert rules and scrape configuration, as files."""

from __future__ import annotations

import json
from pathlib import Path

from profiler import documents
from profiler.errors import InputError
from serve_apps.seeing.alerts import rules
from serve_apps.seeing.grafana import dashboards
from serve_apps.seeing.targets import scrape_config

RULES, SCRAPE = "prometheus-rules.yaml", "prometheus-scrape.yaml"


def rendered(url: str, key_file: str | None = None) -> dict[str, str]:
    """File name to text: everything that Prometheus and Grafana need for a pool at ``url``."""
    boards = dashboards().items()
    texts = {f"grafana/{name}.json": json.dumps(board, indent=1) + "\n" for name, board in boards}
    texts[RULES] = documents.dump_data(rules())
    texts[SCRAPE] = documents.dump_data(scrape_config(url, key_file))
    return texts


def write(directory: Path, texts: dict[str, str], *, replace: bool) -> list[Path]:
    """Write the files, each in one step.

    Raises:
        InputError: one is there already and differs, and may not be replaced.
    """
    paths = {directory / name: text for name, text in texts.items()}
    differing = [p for p, text in paths.items() if p.exists() and p.read_text("utf-8") != text]
    if differing and not replace:
        raise InputError(f"{differing[0]} exists already and differs; pass -y to replace it")
    for path, text in paths.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        documents.write(path, text)
    return list(paths)

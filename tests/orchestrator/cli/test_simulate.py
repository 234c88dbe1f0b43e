"""`simulate` replays a trace through a plan file and reports what became of every request."""

import json

import numpy as np
import pytest
from typer.testing import CliRunner

from orchestrator.cli import app
from profiler import documents
from profiler.errors import InputError, SloMissedError, UnknownNameError
from profiler.traces import write_trace
from tests import plan_builders
from tests.profiler.traces_for_tests import a_trace


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    plan = plan_builders.plan((plan_builders.group(replicas=2),))
    documents.write(tmp_path / "plan.yaml", documents.dump(plan))
    write_trace(a_trace(np.arange(60) * 0.5), tmp_path / "t.csv")

    def run(*args):
        done = CliRunner().invoke(app, ["simulate", "plan.yaml", *args])
        if done.exception and not isinstance(done.exception, SystemExit):
            raise done.exception
        return done

    return run


def result(run, *args):
    return json.loads(run("-t", "t.csv", "-o", "json", *args).stdout)


def test_every_arrival_is_accounted_for(run):
    found = result(run)
    assert found["requests"] == sum(found["outcomes"].values()) == 60
    assert found["attainment"] == 1.0
    assert found["goodput_rps"] == pytest.approx(60 / 29.5)
    (group,) = found["groups"]
    assert group["requests"] == 60
    assert 0 < group["utilisation"] < 1
    # two replicas at $0.10/h from the start to the last answer
    end_s = group["replica_hours"] * 3600 / 2
    assert end_s > 29.5
    assert found["usd_per_1000_requests"] == pytest.approx(2 * 0.1 * end_s / 3600 / 60 * 1000)


def test_a_seed_draws_the_traffic_anew_and_repeats(run):
    once, again, other = (result(run, "--seed", s) for s in "112")
    assert once == again
    assert once["ttft_s"] != other["ttft_s"] or once["duration_s"] != other["duration_s"]


def test_a_rate_multiplies_the_arrivals(run):
    assert result(run, "--rate", "3")["requests"] == 180


def test_events_kill_replicas_and_what_they_held(run, tmp_path):
    (tmp_path / "e.yaml").write_text(
        "replace: false\nevents:\n- {at_s: 10.1, kind: die, group: a}\n"
        "- {at_s: 10.1, kind: die, group: a}\n"
    )
    found = result(run, "--events", "e.yaml")
    assert found["outcomes"]["unavailable"] >= 35
    assert found["attainment"] < 0.5
    assert found["ttft_s"]["p99"] is None
    with pytest.raises(SloMissedError, match=r"expected 95\.00%") as missed:
        run("-t", "t.csv", "--events", "e.yaml", "--check")
    assert missed.value.exit_code == 5


def test_requests_are_saved_with_a_versioned_schema(run, tmp_path):
    pq = pytest.importorskip("pyarrow.parquet", reason="needs the extra profile")
    run("-t", "t.csv", "--save", "r.parquet", "--seed", "4")
    table = pq.read_table(tmp_path / "r.parquet")
    assert table.schema.metadata[b"orchestrator.simulation.version"] == b"1"
    assert table.schema.metadata[b"orchestrator.simulation.seed"] == b"4"
    assert table.num_rows == 60
    row = table.to_pylist()[0]
    assert (row["stream"], row["group"], row["outcome"]) == ("auto", "a", "ok")
    assert row["ttft_s"] == pytest.approx(row["first_token_s"] - row["arrival_s"])
    with pytest.raises(InputError, match="exists already"):
        run("-t", "t.csv", "--save", "r.parquet")


def test_the_page_needs_nothing_else(run, tmp_path):
    run("-t", "t.csv", "--report", "r.html")
    page = (tmp_path / "r.html").read_text()
    assert page.startswith("<!doctype html>")
    assert page.count("<svg") == 5
    assert "http" not in page
    assert "NaN" not in page and "nan," not in page


def test_the_table_says_whether_the_slo_holds(run):
    out = run("-t", "t.csv").stdout
    assert "holds" in out
    assert "requests/s inside the SLO" in out


def test_mistakes_are_named(run, tmp_path):
    with pytest.raises(InputError, match="expected --trace or --service, found neither"):
        run()
    (tmp_path / "e.yaml").write_text("events:\n- {at_s: 1, kind: die, group: b}\n")
    with pytest.raises(UnknownNameError, match=r"e\.yaml:2"):
        run("-t", "t.csv", "--events", "e.yaml")
    with pytest.raises(InputError, match="two traces"):
        run("-t", "t.csv", "-t", "auto=t.csv")

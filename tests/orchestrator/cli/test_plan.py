"""`plan` and what goes with it: reasons, report, cost curves, differences, and their mistakes."""

import json

import pytest
from typer.testing import CliRunner

from orchestrator.cli import app
from orchestrator.deploy import local
from placement.plan import Plan
from profiler import documents
from profiler.errors import InputError, SloMissedError

SERVICE = """\
name: chat
models: [{model: llama-3.1-8b, tensor_parallel: [1]}]
gpus: [L40S, {type: H100, available: 4}]
slo: {ttft_s: 2.0, tpot_s: 0.06}
workload:
  rate_rps: 5
  sizes:
    input_tokens: {kind: uniform, min: 200, max: 900}
    output_tokens: {kind: fixed, tokens: 200}
"""


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    tmp_path.joinpath("s.yaml").write_text(SERVICE)

    def run(*args):
        done = CliRunner().invoke(app, ["plan", *args])
        if done.exception and not isinstance(done.exception, SystemExit):
            raise done.exception
        return done

    return run


def test_a_plan_explains_itself_under_its_tables(run):
    done = run("s.yaml")
    for words in ("serves", "% of requests", "binds", "would save"):
        assert words in done.stdout


def test_options_may_come_before_the_service(run):
    assert json.loads(run("-o", "json", "s.yaml").stdout)["service"] == "chat"


def test_all_reasons_plan_again(run, tmp_path):
    done = run("s.yaml", "--explain", "--report", "p.html")
    assert "this plan $/h" in done.stdout
    assert "one more H100" in done.stdout
    page = (tmp_path / "p.html").read_text()
    assert page.startswith("<!doctype html>")
    assert "one more H100" in page
    with pytest.raises(InputError, match=r"p\.html exists already"):
        run("s.yaml", "--report", "p.html")


def test_the_data_holds_prices_and_reasons_and_can_be_read_back(run, tmp_path):
    done = run("s.yaml", "--no-verify", "-o", "json", "-s", "p.yaml")
    data = json.loads(done.stdout)
    assert set(data["prices"]["load"]) == {g["name"] for g in data["groups"]}
    assert data["explanation"]["uses"]
    assert documents.read(tmp_path / "p.yaml", Plan).explanation is not None


def test_a_cost_curve_as_bars_and_as_data(run, tmp_path):
    done = run("pareto", "s.yaml", "--over", "tpot", "--points", "3")
    assert "cost of the TPOT target" in done.stdout
    assert "asked" in done.stdout
    more = ["--over", "ttft", "--points", "2", "-o", "json", "--report", "c.html"]
    data = json.loads(run("pareto", "s.yaml", *more).stdout)
    assert data["over"] == "ttft"
    assert [p["value"] for p in data["points"]] == [0.5, 2.0, 8.0]
    assert "cost of the TTFT target" in (tmp_path / "c.html").read_text()


def test_two_plan_files_are_compared(run, tmp_path):
    run("s.yaml", "--no-verify", "-s", "a.yaml")
    tmp_path.joinpath("s.yaml").write_text(SERVICE.replace("rate_rps: 5", "rate_rps: 25"))
    run("s.yaml", "--no-verify", "-s", "b.yaml")
    assert "->" in run("diff", "a.yaml", "b.yaml").stdout
    data = json.loads(run("diff", "a.yaml", "b.yaml", "-o", "json").stdout)
    assert data["usd_per_hour_after"] > data["usd_per_hour_before"]
    assert data["groups"]
    assert "no difference" in run("diff", "a.yaml", "a.yaml").stdout
    assert "$/h" in run("s.yaml", "--no-verify", "--against", "a.yaml").stdout.splitlines()[-2]


def test_a_plan_is_compared_with_what_runs(run, tmp_path, monkeypatch):
    run("s.yaml", "--no-verify", "-s", "a.yaml")
    runs = documents.read(tmp_path / "a.yaml", Plan)
    monkeypatch.setattr(local, "running_plan", {"chat": runs}.get)
    assert "no difference" in run("diff", "running", "a.yaml").stdout
    done = run("s.yaml", "--no-verify", "--against", "running", "-o", "json")
    assert "no difference" in done.stderr
    assert json.loads(done.stdout)["service"] == "chat"


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["s.yaml", "--against", "running"], "no service 'chat' runs on this machine"),
        (["s.yaml", "--against", "no.yaml"], "no.yaml: no such file"),
        (["diff", "no.yaml", "no.yaml"], "no.yaml: no such file"),
        (["pareto", "s.yaml"], "there is nothing to trade it for"),
        (["./pareto"], "pareto: no such file"),
    ],
)
def test_mistakes_are_named(run, args, words):
    with pytest.raises(InputError, match=words):
        run(*args)


def test_help_shows_the_command_itself_and_names_its_siblings(run):
    text = run("--help").output
    assert "Usage" in text
    assert "plan default" not in text
    assert "--against" in text
    assert "plan pareto" in text
    assert "--over" in run("pareto", "--help").output
    assert run().exit_code == 2


def test_a_plan_is_tried_unless_told_not_to(run):
    tried = json.loads(run("s.yaml", "-o", "json", "--check").stdout)["verification"]
    assert tried["holds"]
    assert tried["simulated"]
    assert "verification" not in json.loads(run("s.yaml", "-o", "json", "--no-verify").stdout)


def test_a_plan_that_cannot_hold_is_printed_with_a_warning_and_fails_a_check(run, tmp_path):
    text = SERVICE.replace(
        "gpus: [L40S, {type: H100, available: 4}]", "gpus: [{type: H100, available: 1}]"
    )
    bursts = "arrivals: {kind: bursts, calm_rps: 2, burst_rps: 150, calm_s: 30, burst_s: 6}"
    text = text.replace("rate_rps: 5", f"{bursts}\n  duration_s: 120\n  plan_for: p50")
    (tmp_path / "b.yaml").write_text(text)
    done = run("b.yaml")
    assert done.exit_code == 0
    assert "DOES NOT HOLD" in done.stdout
    with pytest.raises(SloMissedError, match="met the SLO in simulation"):
        run("b.yaml", "--check")


def test_a_rate_too_high_to_simulate_is_planned_all_the_same(run, tmp_path):
    (tmp_path / "f.yaml").write_text(SERVICE.replace("rate_rps: 5", "rate_rps: 9000"))
    done = run("f.yaml")
    assert "not tried in simulation: 9,000 requests/s" in done.stderr
    assert "$/h alone" in done.stdout
    with pytest.raises(SloMissedError, match="not tried"):
        run("f.yaml", "--check")

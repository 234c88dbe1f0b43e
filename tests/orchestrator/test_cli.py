"""The command line: data on stdout, narration on stderr, exit codes by kind of error."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

SERVICE = """\
name: chat
models: [{model: llama-3.1-8b}]
gpus: [L4, H100]
slo: {ttft_s: 2.0, tpot_s: 0.06}
workload: {rate_rps: 5, sizes: azure-chat}
"""
TRACE = "arrival_s,input_tokens,output_tokens\n"


@pytest.fixture
def run(tmp_path, orchestrate):
    """Run the CLI where these files are."""

    def run(*args, **files):
        for name, text in files.items():
            tmp_path.joinpath(name).with_suffix(".yaml").write_text(text)
        return orchestrate(*args)

    return run


@pytest.fixture
def run_process(tmp_path):
    """Run the CLI as a user would: a process, in a directory of its own."""
    env = os.environ | {"COLUMNS": "140", "PYTHONPATH": str(Path.cwd())}

    def run(*args):
        return subprocess.run(
            [sys.executable, "-m", "orchestrator", *args],
            cwd=tmp_path,
            env=env,
            capture_output=True,
            text=True,
            check=False,
        )

    return run


def test_help_names_every_command(run_process):
    done = run_process("--help")
    assert done.returncode == 0
    for command in (
        "init", "validate", "schema", "catalog", "trace", "profile", "plan", "deploy", "status",
        "render", "delete", "demo", "keys",
    ):  # fmt: skip
        assert command in done.stdout


def test_help_imports_nothing_heavy():
    code = (
        "import sys, contextlib, orchestrator.cli as c\n"
        "sys.argv = ['orchestrator', '--help']\n"
        "with contextlib.suppress(SystemExit): c.main()\n"
        "heavy = {'numpy', 'pydantic', 'pulp', 'highspy', 'ray', 'torch', 'aiohttp', 'scipy'}\n"
        "print('HEAVY', sorted(heavy & set(sys.modules)))\n"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.splitlines()[-1] == "HEAVY []"


def test_version(run):
    assert run("--version").stdout.strip().count(".") == 2


def test_init_validate_plan(run, tmp_path):
    assert run("init").returncode == 0
    assert run("validate", "service.yaml").returncode == 0
    template = (tmp_path / "service.yaml").read_text()
    assert "duration_s: 3600" in template
    shorter = template.replace("duration_s: 3600", "duration_s: 600")
    (tmp_path / "service.yaml").write_text(shorter)
    done = run("plan", "service.yaml", "--save", "plan.yaml", "-o", "json")
    assert done.returncode == 0, done.stderr
    plan = json.loads(done.stdout)
    assert plan["cost"]["usd_per_hour"] <= min(
        a["usd_per_hour"] for a in plan["alternatives"] if "usd_per_hour" in a
    )
    again = run("init")
    assert again.returncode == 2
    assert "exists already" in again.stderr


def test_the_plan_table_marks_the_chosen_and_says_why_others_lost(run_process, tmp_path):
    (tmp_path / "s.yaml").write_text(SERVICE)
    done = run_process("plan", "s.yaml", "--no-verify")
    assert done.returncode == 0
    assert "CHOSEN" in done.stdout
    assert "$/h alone" in done.stdout
    assert "no fleet costs less than" in done.stdout


def test_a_plan_prints_as_yaml_that_deploy_reads(run, tmp_path):
    done = run("plan", "s.yaml", "--no-verify", "-o", "yaml", s=SERVICE)
    plan = yaml.safe_load(done.stdout)
    assert plan["service"] == "chat"
    dry = run("deploy", "p.yaml", "--dry-run", p=done.stdout)
    assert dry.returncode == 0, dry.stderr
    assert "+ llama-3-1-8b" in dry.stderr
    assert "nothing was changed" in dry.stderr
    assert not (tmp_path / "state").exists()


def test_a_saved_plan_is_not_overwritten_unasked(run, tmp_path):
    run("plan", "s.yaml", "--no-verify", "-s", "p.yaml", s=SERVICE)
    before = (tmp_path / "p.yaml").read_text()
    changed = SERVICE.replace("rate_rps: 5", "rate_rps: 90")
    refused = run("plan", "s.yaml", "--no-verify", "-s", "p.yaml", s=changed)
    assert refused.returncode == 2
    assert "pass -y to replace it" in refused.stderr
    assert (tmp_path / "p.yaml").read_text() == before
    assert run("plan", "s.yaml", "--no-verify", "-s", "p.yaml", "-y", s=changed).returncode == 0
    assert (tmp_path / "p.yaml").read_text() != before


@pytest.mark.parametrize(
    ("service", "code", "message"),
    [
        (SERVICE.replace("models", "modles"), 2, "did you mean 'models'?"),
        (SERVICE.replace("2.0", "two"), 2, "s.yaml:4: slo.ttft_s: found 'two' (text)"),
        (SERVICE.replace("L4", "L5"), 2, "s.yaml:3: gpus[0]: unknown GPU type 'L5'"),
        (
            SERVICE.replace("3.1-8b", "3.1-405b").replace("L4, H100", "L4, T4"),
            3,
            "L4: llama-3.1-405b does not fit: needs 8",
        ),
        (SERVICE.replace("0.06", "0.0006"), 3, "TPOT is"),
        (
            SERVICE.replace("[L4, H100]", "[{type: H100, available: 0}]"),
            3,
            "stock of H100 (on-demand): 0 offered, 1 needed",
        ),
        (SERVICE.replace("rate_rps: 5, sizes: azure-chat", "trace: no.csv"), 2, "no.csv"),
    ],
)
def test_a_users_mistake_has_a_message_and_a_code_but_no_traceback(run, service, code, message):
    done = run("plan", "s.yaml", "--no-verify", s=service)
    assert done.returncode == code, done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("", "no requests"),
        ("0,10,5\n1,ten,5\n", "t.csv:3:"),
        ("0,10\n", "t.csv:2:"),
    ],
)
def test_a_bad_trace_is_placed(run, tmp_path, rows, message):
    (tmp_path / "t.csv").write_text(TRACE + rows)
    service = SERVICE.replace("rate_rps: 5, sizes: azure-chat", "trace: t.csv")
    for command in ("plan", "validate"):
        done = run(command, "s.yaml", s=service)
        assert done.returncode == 2
        assert message in done.stderr


def test_a_generated_trace_reads_back(run):
    service = SERVICE.replace(
        "rate_rps: 5,", "arrivals: {kind: poisson, rate_rps: 5}, duration_s: 100,"
    )
    made = run("trace", "generate", "s.yaml", "t.csv.gz", s=service)
    assert made.returncode == 0, made.stderr
    shown = json.loads(run("trace", "show", "t.csv.gz", "-o", "json").stdout)
    assert 400 < shown["requests"] < 600


def test_catalogs_print_as_tables_and_data(run):
    assert "A100-80GB" in run("catalog", "gpus").stdout
    gpus = json.loads(run("catalog", "gpus", "-o", "json").stdout)
    assert {"T4", "H100", "MI300X", "cpu"} <= {g["name"] for g in gpus}
    models = yaml.safe_load(run("catalog", "models", "-o", "yaml").stdout)
    assert any(m["name"] == "mixtral-8x7b" for m in models)


def test_a_computed_profile_is_saved_and_used(run):
    made = run("profile", "compute", "llama-3.1-8b", "--gpu", "L4", "-s", "l4.yaml")
    assert made.returncode == 0, made.stderr
    done = run("plan", "s.yaml", "--no-verify", "-o", "json", s=SERVICE + "profiles: [l4.yaml]\n")
    assert done.returncode == 0, done.stderr
    too_big = run("profile", "compute", "llama-3.1-70b", "--gpu", "L4")
    assert too_big.returncode == 3
    assert "does not fit" in too_big.stderr


def test_an_engine_that_is_not_there_is_exit_4(run_process):
    done = run_process("profile", "measure", "smollm2-135m", "--url", "http://127.0.0.1:9")
    assert done.returncode == 4
    assert "http://127.0.0.1:9" in done.stderr
    assert "Traceback" not in done.stderr


def test_measuring_finds_the_hardware_and_checks_what_it_is_asked(run):
    done = run("profile", "measure", "smollm2-135m", "--url", "http://127.0.0.1:9")
    assert "GPU" in done.stderr  # which were found, or that none were and the CPU is profiled
    done = run("profile", "measure", "smollm2-135m", "--gpu", "cpu", "--saturation", "64x16")
    assert done.returncode == 2
    assert "found '64x16', expected input+output tokens such as 256+64" in done.stderr


def test_status_and_delete_of_nothing(run):
    assert run("status", "nothing").returncode == 2
    done = run("delete", "nothing")
    assert done.returncode == 0
    assert "no service 'nothing'" in done.stderr


def test_no_color_is_honoured(run):
    assert "\x1b[" not in run("plan", "s.yaml", "--no-verify", s=SERVICE).stdout


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_unwinds_the_command(number):
    code = f"""
import os, signal, sys
from orchestrator import cli

signal.signal({int(number)}, signal.SIG_DFL)  # these tests may themselves run under nohup

@cli.app.command()
def work():
    try:
        os.kill(os.getpid(), {int(number)})
        signal.pause()
    finally:
        os.kill(os.getpid(), signal.SIGTERM)
        print("cleaned up")

sys.argv = ["orchestrator", "work"]
cli.main()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (128 + number, "cleaned up\n")
    assert done.stderr == f"ended by {number.name}\n"


def test_a_signal_that_nohup_ignores_stays_ignored():
    code = """
import os, signal, sys
from orchestrator import cli

@cli.app.command()
def work():
    os.kill(os.getpid(), signal.SIGHUP)
    print("went on")

signal.signal(signal.SIGHUP, signal.SIG_IGN)
sys.argv = ["orchestrator", "work"]
cli.main()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "went on\n"), done.stderr

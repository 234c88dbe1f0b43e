"""The whole product on one machine: from a trace to a plan, a running pool, and tokens."""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import signal
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Console
from rich.table import Table

from orchestrator import report
from orchestrator.burst import Burst, send
from orchestrator.loading import engine_options, load_service
from orchestrator.planning import build_problem, trace_of
from orchestrator.profiling import describe, profile_here
from orchestrator.simulator import Timings, attainment, simulate_trace
from orchestrator.surge import PHASES, Phases
from placement.plan import Plan
from placement.planner import make_plan
from profiler import documents
from profiler.capacity import Replica
from profiler.core import Profile, ReplicaConfig, Slo
from profiler.errors import InfeasibleError, InputError
from profiler.traces import Trace

if TYPE_CHECKING:
    from orchestrator.cli.output import Steps

UTILISATION = 0.6  # of what this machine's profile says it sustains
PERCENTILES = (50, 90, 99)


@dataclass(frozen=True)
class Pace:
    """How long the demo measures and sends, in seconds; ``burst_s`` at most."""

    profile_s: float = 30.0
    burst_s: float = math.inf
    phases: Phases = PHASES


QUICK = Pace(15.0, 10.0, (("before", 4.0, 1.0), ("burst", 16.0, 3.0), ("after", 4.0, 1.0)))


@dataclass(frozen=True)
class Demo:
    """Where the demo writes, and how it speaks."""

    directory: Path
    console: Console
    steps: Steps
    report: Path = Path("demo-report.html")
    pace: Pace = Pace()
    profile: Path | None = None  # of the local service's engine; measured if not given

    @property
    def name(self) -> str:
        """Of the service; each demo has its own, so that none deletes another's pool."""
        return f"demo-{os.getpid()}"

    def run(self, port: int) -> None:
        """All steps in order; whatever happens, nothing is left running."""
        cloud, local = self._example("service.yaml"), self._example("local.yaml")
        self._title("1  A service file, checked offline")
        loaded = load_service(cloud)
        self._say(
            f"{len(loaded.models)} model, {len(loaded.gpus)} GPU types, SLO {loaded.service.slo}"
        )

        self._title("2  The cheapest fleet for its traffic (a generated trace, catalog prices)")
        self._plan(cloud)

        self._title("3  What this machine's engine can do (real vLLM, measured)")
        profile = self._profile(local)

        self._title(f"4  A plan for this machine, at {UTILISATION:.0%} of what it sustains")
        local, trace = self._scaled(local, profile)
        plan = self._plan(local)

        self._title("5  Deploy it on Ray Serve")
        with self._deployed(plan, port) as url:
            self._title("6  A burst from an OpenAI client")
            burst = asyncio.run(self._burst(url, plan, trace.slice(0.0, self.pace.burst_s)))
            self._title("7  Predicted against measured")
            self._compare(plan, burst)
        self._surge(port)

    def _example(self, name: str) -> Path:
        path = self.directory / name
        path.write_text(files("orchestrator").joinpath(f"data/{name}").read_text())
        return path

    def _plan(self, service: Path) -> Plan:
        with self.steps("planning") as step:
            loaded = load_service(service)
            plan = make_plan(build_problem(loaded, step), loaded.service.name, on_step=step)
        documents.write(service.with_suffix(".plan.yaml"), documents.dump(plan))
        for part in report.plan_tables(plan):
            self.console.print(part)
        return plan

    def _profile(self, service: Path) -> Profile:
        """Write the profile that the local service names: the one given, else measured now.

        Raises:
            InputError: the one given is of another engine.
        """
        text = service.read_text()
        service.write_text(text.replace("profiles: [cpu.yaml]\n", ""))
        loaded = load_service(service)
        service.write_text(text)
        ((entry, model),), ((_, gpu),) = loaded.models, loaded.gpus
        config = ReplicaConfig(
            model=model.name, gpu=gpu.name, engine=engine_options(entry.engine, gpu)
        )
        if self.profile is not None:
            profile = given_profile(self.profile, config)
        else:
            with self.steps("profiling") as step:
                budget_s = self.pace.profile_s
                profile = profile_here(model, gpu, config, budget_s=budget_s, on_step=step).profile
        documents.write(self.directory / "cpu.yaml", documents.dump(profile))
        table = Table.grid(padding=(0, 2))
        for label, value in describe(profile):
            table.add_row(label, value)
        self.console.print(table)
        return profile

    def _scaled(self, service: Path, profile: Profile) -> tuple[Path, Trace]:
        """The local service with its rate set to a share of what the profile sustains."""
        loaded = load_service(service)
        spec, slo = loaded.service.workload, loaded.service.slo
        assert spec is not None, "the bundled service has a workload"
        trace = trace_of(spec, loaded.directory)
        sustained = sustained_rps(profile, trace, slo)
        if sustained <= 0:
            raise InfeasibleError(f"this machine cannot meet {slo} even for one request at a time")
        factor = UTILISATION * sustained / trace.mean_rate_rps
        text = service.read_text().replace(
            "  plan_for: mean\n", f"  plan_for: mean\n  multiply_rate: {factor:.4f}\n"
        )
        service.write_text(text.replace("name: local\n", f"name: {self.name}\n"))
        return service, trace.scaled(factor, "superpose")

    @contextlib.contextmanager
    def _deployed(self, plan: Plan, port: int, **options: Any) -> Iterator[str]:
        from orchestrator.deploy.local import delete_local, deploy_local

        try:
            with self.steps("deploying") as step:
                status = deploy_local(
                    plan, port=port, on_progress=lambda s: step(report.status_line(s)), **options
                )
            self._say(f"running at {status.url}")
            yield status.url
        finally:
            with _uninterrupted(), self.steps("cleaning up") as step:
                delete_local(plan.service, lambda s: step(report.status_line(s)))
            self._say("everything is stopped")

    async def _burst(self, url: str, plan: Plan, trace: Trace) -> Burst:
        from openai import AsyncOpenAI

        (model,) = plan.models
        async with AsyncOpenAI(base_url=url, api_key="none", max_retries=0) as client:
            question = "What is the capital of France? Answer in one sentence."
            reply = await client.chat.completions.create(
                model="auto",
                messages=[{"role": "user", "content": question}],
                max_tokens=40,
                temperature=0,
            )
            self._say(f"{question}\n{model}: {reply.choices[0].message.content}")
            with self.steps("sending") as step:
                return await send(client, "auto", trace, on_change=lambda b: step(live_line(b)))

    def _surge(self, port: int) -> None:
        """Three times the planned load over a fleet that is not here: its engines are emulated."""
        from orchestrator import demo_surge

        self._title("8  A fleet of two models on GPUs that are not here (emulated)")
        service = self._example("burst.yaml")
        service.write_text(service.read_text().replace("name: burst\n", f"name: {self.name}\n"))
        plan = self._plan(service)
        spec = load_service(service).service.workload
        assert spec is not None, "the bundled service has sizes"
        assert spec.sizes is not None, "the bundled service has sizes"
        options = {"emulate": True, "autoscale": demo_surge.settings(plan)}
        with self._deployed(plan, port, **options) as url:
            self._title("9  Three times the load: shed, then scale (emulated engines)")
            surge = demo_surge.run_surge(plan, url, spec.sizes, self.pace.phases, self.console)
            decisions = demo_surge.decisions_of(plan)
            path = demo_surge.write_report(surge, plan, decisions, self.report)
        self._say(f"{demo_surge.summary(surge, decisions)}\nreport: {path}")

    def _compare(self, plan: Plan, burst: Burst) -> None:
        predicted = predict(plan, burst)
        self.console.print(comparison(predicted, burst))
        self._say(
            f"{burst.total - len(burst.failed)} of {burst.total} answered; both targets met by "
            f"{burst.attainment(plan.slo):.1%} of requests (predicted "
            f"{attainment(predicted, plan.slo):.1%}, target {plan.slo.attainment:.0%})"
        )

    def _title(self, text: str) -> None:
        self.console.print(f"\n[bold cyan]{text}[/]")

    def _say(self, text: str) -> None:
        self.console.print(text, markup=False)


def given_profile(path: Path, config: ReplicaConfig) -> Profile:
    """The profile in a file.

    Raises:
        InputError: it cannot be read, or is not of this configuration.
    """
    profile = documents.read(path, Profile)
    if profile.config != config:
        raise InputError(
            f"{path}: is of {profile.config.key} with {profile.config.engine}, expected "
            f"{config.key} with {config.engine}; `orchestrator profile measure` measures that"
        )
    return profile


def sustained_rps(profile: Profile, trace: Trace, slo: Slo) -> float:
    """The rate of this mix of sizes that one replica sustains inside the SLO."""
    replica = Replica(profile, trace.input_tokens.astype(float), trace.output_tokens.astype(float))
    rates = replica.max_rate_rps(slo)
    return float(len(rates) / (1 / rates).sum()) if (rates > 0).all() else 0.0


def predict(plan: Plan, burst: Burst) -> Timings:
    """The same requests, at the same times, through the simulator with the measured profile."""
    (group,) = plan.groups
    answered = sorted((a for a in burst.answers if not a.error), key=lambda a: a.due_s)
    trace = Trace(
        arrival_s=np.array([a.due_s for a in answered]),
        input_tokens=np.array([a.input_tokens for a in answered]),
        output_tokens=np.array([a.output_tokens for a in answered]),
        source="burst",
    )
    return simulate_trace(group.profile, trace, replicas=group.replicas)


def comparison(predicted: Timings, burst: Burst) -> Table:
    """TTFT and TPOT percentiles, predicted and measured."""
    table = Table("", box=None, pad_edge=False)
    columns = [(name, p) for name in ("ttft_s", "tpot_s") for p in PERCENTILES]
    for name, p in columns:
        table.add_column(f"{name[:4].upper()} p{p}", justify="right")
    for label, source in (("predicted", predicted), ("measured", burst)):
        cells = []
        for name, p in columns:
            values = getattr(source, name) if label == "predicted" else burst.column(name)
            cells.append(f"{np.nanpercentile(values, p) * 1e3:,.0f} ms")
        table.add_row(label, *cells)
    return table


def live_line(burst: Burst) -> str:
    """How a burst comes along."""
    line = (
        f"{burst.sent}/{burst.total} sent, {burst.in_flight} in flight, {len(burst.answers)} done"
    )
    if burst.answers:
        ttft = np.median(burst.column("ttft_s")) * 1e3
        tpot = np.nanmedian(burst.column("tpot_s")) * 1e3
        line += f", median TTFT {ttft:.0f} ms, TPOT {tpot:.0f} ms"
    return line + (f", {len(burst.failed)} failed" if burst.failed else "")


@contextlib.contextmanager
def _uninterrupted() -> Iterator[None]:
    """Cleaning up ends even when Ctrl-C is pressed again, or another signal comes."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, signal.SIG_IGN) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def run_demo(
    console: Console,
    steps: Steps,
    port: int,
    report_path: Path,
    pace: Pace = Pace(),
    profile: Path | None = None,
) -> None:
    """Run the demo in a directory of its own, which is removed at the end; the report stays.

    ``report_path`` gets a number where a file of that name is.
    """
    with tempfile.TemporaryDirectory(prefix="orchestrator-demo-") as tmp:
        Demo(Path(tmp), console, steps, report_path, pace, profile).run(port)

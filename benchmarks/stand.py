"""A stand to try the data plane on: emulated engines and the ingress, each a process of its own.

No Ray: the ingress is told where its engines are, and finds out by itself how they fare.
"""

from __future__ import annotations

import datetime as dt
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from benchmarks.stand_gateway import Place, Setup
from placement.plan import Cost, Plan, ReplicaGroup, Route
from profiler.core import (
    EngineOptions,
    GpuType,
    ModelSpec,
    Price,
    Profile,
    Provenance,
    ReplicaConfig,
    SizeBucket,
    Slo,
    StepTime,
)
from profiler.emulated.asked import Outputs
from profiler.emulated.server import EmulatedServer
from profiler.emulated.settings import Settings
from serve_apps.pool import IngressSettings

ROOT = Path(__file__).parents[1]
DAY = dt.date(2026, 1, 1)
CONTEXT_TOKENS = 8192
START_TIMEOUT_S = 60.0
END_TIMEOUT_S = 60.0
LENIENT = Slo(ttft_s=2.0, tpot_s=0.06, attainment=0.95)
INGRESS = IngressSettings(port=0, drain_timeout_s=END_TIMEOUT_S)


@dataclass(frozen=True)
class Pool:
    """One group of engines: a step takes ``step_s`` and ``per_sequence_s`` for each sequence."""

    name: str = "a"
    model: str = "m1"
    engines: int = 2
    step_s: float = 0.01
    per_sequence_s: float = 1e-4
    max_num_seqs: int = 64
    usd_per_hour: float = 1.0
    rate_rps: float = 20.0

    @property
    def profile(self) -> Profile:
        """What its engines are to be like."""
        options = EngineOptions(max_num_seqs=self.max_num_seqs, max_num_batched_tokens=2048)
        law = StepTime(
            base_s=self.step_s,
            per_prefill_token_s=1e-6,
            per_sequence_s=self.per_sequence_s,
            per_kv_token_s=1e-9,
            batch_extra_s=(),
        )
        return Profile(
            config=ReplicaConfig(model=self.model, gpu="made", engine=options),
            step_time=law,
            kv_capacity_tokens=400_000,
            max_model_len=CONTEXT_TOKENS,
            provenance=Provenance(kind="roofline", date=DAY),
        )


def made_plan(pools: Sequence[Pool], slo: Slo, output_tokens: int = 16) -> Plan:
    """A plan over these pools. Each model is asked for by name; ``auto`` is the first."""
    groups = tuple(
        ReplicaGroup(
            name=p.name,
            market="on_demand",
            replicas=p.engines,
            usd_per_hour=p.usd_per_hour,
            load=0.5,
            profile=p.profile,
        )
        for p in pools
    )
    bucket = SizeBucket(
        input_range=(0, 1000),
        output_range=(0, 1000),
        input_tokens=20,
        output_tokens=output_tokens,
    )
    routes = tuple(
        Route(stream=stream, bucket=bucket, rate_rps=p.rate_rps, shares={p.name: 1.0})
        for stream, p in (("auto", pools[0]), *((p.model, p) for p in pools))
    )
    rent = sum(g.usd_per_hour * g.replicas for g in groups)
    cost = Cost(
        usd_per_hour=rent,
        usd_per_million_tokens=1,
        lower_bound_usd_per_hour=rent,
        gap=0,
        lp_bound_usd_per_hour=rent,
    )
    return Plan(
        service="stand",
        slo=slo,
        headroom=0.85,
        cost=cost,
        groups=groups,
        models={p.model: _model(p.model) for p in pools},
        gpus={"made": _gpu()},
        routes=routes,
    )


def _model(name: str) -> ModelSpec:
    return ModelSpec(
        name=name, weights=f"made/{name}", total_params=10**8, active_params=10**8, layers=4,
        hidden_size=256, kv_heads=2, head_dim=64, context_tokens=CONTEXT_TOKENS,
    )  # fmt: skip


def _gpu() -> GpuType:
    return GpuType(
        name="made", vendor="nvidia", memory_gb=80, bandwidth_gb_per_s=2000, fp16_tflop_per_s=300,
        price=Price(on_demand_usd_per_hour=1.0, source="made", as_of=DAY),
    )  # fmt: skip


@dataclass
class Engine:
    """An emulated engine's process, which can be stopped, killed and started anew at its port."""

    place: Place
    server: EmulatedServer
    port: int = 0

    @property
    def url(self) -> str:
        """Base URL."""
        return self.server.url

    @property
    def pid(self) -> int:
        """Of the engine itself, not of its guard."""
        guard = self.server.pid
        children = Path(f"/proc/{guard}/task/{guard}/children").read_text(encoding="ascii")
        return int(children.split()[0])

    def start(self) -> None:
        """Begin to start; `Stand.ready` waits."""
        self.server.start()

    def kill(self) -> None:
        """As ``kill -9`` does; returns when it is gone."""
        pid = os.pidfd_open(self.pid)
        signal.pidfd_send_signal(pid, signal.SIGKILL)
        os.close(pid)
        assert self.server._process is not None
        self.server._process.wait(END_TIMEOUT_S)

    def freeze(self) -> None:
        """As ``kill -STOP`` does."""
        os.kill(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        os.kill(self.pid, signal.SIGCONT)


@dataclass
class Stand:
    """``with Stand() as stand: ... stand.port``: engines and ingress, ready."""

    pools: tuple[Pool, ...] = (Pool(),)
    slo: Slo = LENIENT
    output_tokens: int = 16
    plan: Plan | None = None
    artefact: str = ""
    ingress: IngressSettings = INGRESS
    engines: list[Engine] = field(default_factory=list)
    port: int = 0

    def __enter__(self) -> Self:
        self._directory = tempfile.TemporaryDirectory(prefix="stand-")
        self.plan = self.plan or made_plan(self.pools, self.slo, self.output_tokens)
        try:
            for group in self.plan.groups:
                for i in range(group.replicas):
                    self.engines.append(self._engine(group, f"{group.name}{i}"))
            for engine in self.engines:
                engine.start()
            self._gateway = self._start_gateway()
            self.ready()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End all processes."""
        gateway = getattr(self, "_gateway", None)
        if gateway is not None:
            gateway.kill()
            gateway.wait()
            gateway.stdin.close()
            gateway.stdout.close()
        for engine in self.engines:
            if engine.server.alive:
                engine.thaw()
            engine.server.stop()
        self._directory.cleanup()

    @property
    def url(self) -> str:
        """Base URL of the ingress."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def gateway_pid(self) -> int:
        """The ingress's process."""
        return self._gateway.pid

    def ready(self) -> None:
        """Wait until all engines answer."""
        for engine in self.engines:
            engine.server.wait_ready(START_TIMEOUT_S)

    def told_to_end(self) -> None:
        """SIGTERM to the ingress."""
        self._gateway.terminate()

    def ended(self) -> int:
        """Wait until the ingress has ended; its exit code."""
        return self._gateway.wait(END_TIMEOUT_S)

    def _engine(self, group: ReplicaGroup, name: str) -> Engine:
        settings = Settings(
            profile=group.profile, outputs=Outputs(mean_tokens=self.output_tokens, cv=0.0)
        )
        server = EmulatedServer(settings, log_path=Path(self._directory.name, f"{name}.log"))
        return Engine(Place(id=name, group=group.name, url=server.url), server)

    def _start_gateway(self) -> subprocess.Popen[bytes]:
        assert self.plan is not None
        path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
        with Path(self._directory.name, "gateway.log").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "benchmarks.stand_gateway"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
            )
        setup = Setup(
            plan=self.plan,
            replicas=tuple(e.place for e in self.engines),
            ingress=self.ingress,
            artefact=self.artefact,
        )
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(setup.model_dump_json().encode() + b"\n")
        process.stdin.flush()
        line = process.stdout.readline()
        if not line:
            process.kill()
            text = Path(self._directory.name, "gateway.log").read_text(encoding="utf-8")
            raise RuntimeError(f"the gateway did not start: {text[-2000:]}")
        self.port = int(line)
        return process

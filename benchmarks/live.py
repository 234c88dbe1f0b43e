"""A real engine on this machine's CPU, and a profile of it measured in pieces.

Between two pieces something else can be measured: a machine whose speed drifts then does the same
to both, where a profile taken at first and checked afterwards would be judged by the drift.
"""

from __future__ import annotations

import contextlib
import math
import tempfile
from collections.abc import Iterator
from pathlib import Path

from orchestrator.profiling import START_TIMEOUT_S, describe
from profiler.catalog import load_catalog
from profiler.core import EngineOptions, ReplicaConfig
from profiler.engine import VllmServer
from profiler.errors import InputError
from profiler.measure import Measurement, Progress, measure_engine
from profiler.weights import local_weights

MODEL = "smollm2-135m"
LIMITS = EngineOptions(max_model_len=2048, max_num_seqs=32, max_num_batched_tokens=512)


@contextlib.contextmanager
def cpu_engine() -> Iterator[tuple[str, ReplicaConfig]]:
    """vLLM with SmolLM2-135M, ready: its URL and what runs there. It ends with the block."""
    catalog = load_catalog()
    model, cpu = catalog.model(MODEL), catalog.gpu("cpu")
    config = ReplicaConfig(model=model.name, gpu=cpu.name, engine=LIMITS)
    with tempfile.TemporaryDirectory(prefix="orchestrator-bench-") as tmp:
        weights = local_weights(model)
        with VllmServer(config, model, cpu, weights, log_path=Path(tmp, "engine.log")) as server:
            server.wait_ready(START_TIMEOUT_S)
            yield server.url, config


class PiecewiseProfile:
    """A profile that is measured in pieces, by resuming it from the points kept so far.

    The first piece takes twice the time of the others: it has the probes that identify the law.
    ``taken_s`` counts the seconds of all pieces.
    """

    def __init__(
        self, url: str, config: ReplicaConfig, points: Path, *, budget_s: float, pieces: int
    ) -> None:
        """Nothing is measured yet; ``points`` is a file that does not exist."""
        self._url, self._config, self._points = url, config, points
        self._share_s = budget_s / (pieces + 1)
        self._found: Measurement | None = None
        self.taken_s = 0.0

    def measure(self) -> None:
        """The next piece."""
        first = not self._points.exists()
        budget_s = self._share_s * (1 + first)
        before_s = self.taken_s

        def said(progress: Progress) -> None:
            self.taken_s = before_s + progress.elapsed_s
            print(f"  {self.taken_s:5.0f} s of profiling: {progress.probe}", flush=True)

        try:
            self._found = measure_engine(
                self._url,
                self._config,
                budget_s=budget_s,
                points_path=self._points,
                max_drift=math.inf,  # the profile tells it; a benchmark shows what comes of it
                on_progress=said,
            )
        except InputError as error:
            print(f"  {error}; going on")

    @property
    def found(self) -> Measurement:
        """What all pieces together showed.

        Raises:
            InputError: too little was measured to tell the law.
        """
        if self._found is None:
            raise InputError("the profile's budget was too small; raise --budget-minutes")
        return self._found

    def show(self) -> None:
        """Print each fitted point with its error, and the profile."""
        for point, error in self.found.residuals():
            print(
                f"  {point.kind:8} N={point.sequences:<4} P={point.prefill_tokens:<5} "
                f"steps={point.steps:<3} {point.time_s * 1e3:8.1f} ms  fit {error:+.0%}  "
                f"spread {point.spread:.0%} of {point.repeats}"
            )
        for label, value in describe(self.found.profile):
            print(f"  {label}: {value}")

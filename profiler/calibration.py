"""Fits the roofline's efficiencies to published runs of real engines; needs the extra ``silicon``.

Nothing here looks at the held-out runs but `errors`. Each (model, GPU, engine) triple has a say
that grows with the square root of its runs, and errors are taken as logarithms under a Cauchy
loss: a few published runs are off by a factor (warm-up inside the run, a stalled engine).
"""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from profiler.catalog import load_catalog
from profiler.closed_loop import Floats, Load, Seen, closed_loop, throughput_tps
from profiler.core import EngineOptions, GpuType, ModelSpec
from profiler.efficiency import (
    CPU,
    OTHER,
    Calibration,
    Efficiency,
    EngineCosts,
    Errors,
    Generation,
    Rows,
)
from profiler.errors import OrchestratorError
from profiler.published_runs import SPLIT, Run, read_runs
from profiler.roofline import (
    DoesNotFit,
    coefficients,
    kv_capacity_tokens,
    roofline_profile,
    step_time,
)
from profiler.silicon import PACKAGE, NoData, database_steps, package_version
from profiler.step_fit import Point

N = TypeVar("N", Efficiency, EngineCosts)
ENGINES = ("vllm", "sglang", "trtllm")
GENERATIONS: dict[str, tuple[str, ...]] = {
    "hopper": ("H100", "H200", "H20", "GH200"),
    "blackwell": ("B200", "B300", "GB200", "GB300"),
}
KERNELS_ONLY: dict[str, tuple[str, tuple[str, ...]]] = {
    "ampere": ("A100-80GB", ("A100", "A10", "A10G", "A30", "A40")),
    "ada": ("L40S", ("L4", "L40", "L40S")),
}
"""Generations without published runs: a type whose kernels were timed, and whom it stands for."""
PCIE_FROM = "ada"
KERNEL_MODELS = (("llama-3.1-8b", 1), ("qwen3-8b", 2), ("qwen3-32b", 4), ("llama-3.1-70b", 8))
STREAM_SHARE = 0.95  # no kernel streams more of a memory's nominal rate


# The fitted quantities: a start, and the highest they may be. Shares end at 1, the peak.
START: dict[str, tuple[float, float]] = {
    "compute": (0.6, 1.0),
    "bandwidth": (0.8, STREAM_SHARE),
    "link": (0.6, 1.0),
    "fp8_compute": (0.8, 1.0),
    "fp4_compute": (0.8, 1.0),
    "moe_compute": (0.6, 1.0),
    "layer_overhead_s": (1e-5, 1e-3),
    "moe_layer_overhead_s": (1e-5, 1e-3),
    "sequence_overhead_s": (1e-5, 1e-3),
    "allreduce_latency_s": (8e-6, 1e-3),
}
PER_GENERATION = ("compute", "bandwidth")
ENGINE_START: dict[str, tuple[float, float]] = {
    "step_overhead_s": (1e-3, 0.1),
    "request_s": (1e-2, 1.0),
    "request_layer_s": (1e-4, 1e-2),
    "in_step": (0.3, 1.0),
}
PRIOR = 0.5  # weight of the distance from the start, in logarithms: tells apart what runs do not
TPOT_WEIGHT = 2.0  # of its residuals beside those of TTFT, which scatter more
SCALE = 0.15  # of the loss: beyond 15 % a residual counts as an outlier more and more


@dataclass(frozen=True)
class Fit:
    """Fitted figures: one efficiency per generation in the fit, and what each engine adds."""

    efficiency: dict[str, Efficiency]
    engines: dict[str, EngineCosts]

    def of(self, run: Run) -> Efficiency:
        """The efficiency for a run: its generation's, else the only one."""
        generation = _generation(run)
        return self.efficiency.get(generation) or next(iter(self.efficiency.values()))


def predict(fit: Fit, runs: Sequence[Run], *, default_law: bool = False) -> Seen:
    """What the roofline says each run must have measured: arrays ``[runs]``.

    With ``default_law``, a model with experts is given the law of its `Profile`, which is one line
    for all batch sizes, and not the one for the run's own number of clients.
    """
    table = _Table(runs, default_law=default_law)
    return table.predict(fit)


def errors(seen: Seen, runs: Sequence[Run]) -> Errors:
    """Median absolute relative errors of TPOT, TTFT and throughput."""
    load = load_of(runs)
    tpot, ttft = np.array([r.tpot_s for r in runs]), np.array([r.ttft_s for r in runs])
    measured = throughput_tps(load, tpot, ttft)

    def median(a: Floats, b: Floats) -> float:
        return round(float(np.median(np.abs(a / b - 1))), 4)

    return Errors(
        tpot=median(seen.tpot_s, tpot),
        ttft=median(seen.ttft_s, ttft),
        throughput=median(seen.throughput_tps, measured),
        rows=len(runs),
    )


def fit_runs(runs: Sequence[Run], *, pooled: bool = False) -> Fit:
    """The figures with the least robust squared logarithmic error on the runs.

    ``pooled`` fits one efficiency to all generations together.
    """
    from scipy.optimize import least_squares

    table = _Table(runs)
    generations = [OTHER] if pooled else sorted({_generation(r) for r in runs})
    names = _names(generations)
    start = np.log([_limits(n)[0] for n in names])
    high = np.log([_limits(n)[1] for n in names]) + 1e-9
    tpot = np.log([r.tpot_s for r in runs])
    ttft = np.log([r.ttft_s for r in runs])
    weight = _weights(runs)

    def residuals(x: Floats) -> Floats:
        seen = table.predict(_unpack(x, names, generations))
        return np.concatenate(
            [
                TPOT_WEIGHT * weight * (np.log(seen.tpot_s) - tpot),
                weight * (np.log(seen.ttft_s) - ttft),
                PRIOR * (x - start),
            ]
        )

    low = start - np.log(100.0)  # a hundredth of the start: as good as none
    found = least_squares(
        residuals, start, bounds=(low, high), loss="cauchy", f_scale=SCALE, max_nfev=60
    )
    return _unpack(found.x, names, generations)


def calibrate(as_of: dt.date) -> Calibration:
    """The whole data file, refitted from the installed package.

    Raises:
        InputError: the package is not installed.
    """
    runs, unused = read_runs()
    seen, unseen = [r for r in runs if not r.held_out], [r for r in runs if r.held_out]
    fit, pooled = _rounded(fit_runs(seen)), _rounded(fit_runs(seen, pooled=True))
    generations = {
        name: Generation(
            gpus=gpus,
            efficiency=fit.efficiency[name],
            held_out=_errors_on(fit, [r for r in unseen if _generation(r) == name]),
        )
        for name, gpus in GENERATIONS.items()
    }
    unknown, common = _left_out(runs), pooled.efficiency[OTHER]
    for name, (stand_in, gpus) in KERNELS_ONLY.items():
        efficiency = fit_kernels(load_catalog().gpu(stand_in), common)
        generations[name] = Generation(gpus=gpus, efficiency=efficiency, held_out=unknown)
    generations[OTHER] = Generation(efficiency=common, held_out=unknown)
    _share_pcie(generations, generations[PCIE_FROM].efficiency.pcie_link)
    generations[CPU] = Generation(efficiency=CPU_EFFICIENCY)
    return Calibration(
        source=f"silicon_sample.csv of {PACKAGE}: closed-loop runs of vLLM, SGLang, TensorRT-LLM",
        version=package_version(),
        license="Apache-2.0",
        as_of=as_of,
        split=SPLIT,
        rows=Rows(fitted=len(seen), held_out=len(unseen), unused=unused),
        engines=fit.engines,
        generations=generations,
    )


def fit_kernels(gpu: GpuType, common: Efficiency) -> Efficiency:
    """``common`` with the shares nearest to the kernel times of one GPU type.

    Compute and bandwidth follow from models on one GPU, the share of PCIe from those on several.
    Kernel times have no scheduling in them, so that of ``common`` is left out of the comparison.
    """
    alone = _nearest(gpu, common, KERNEL_MODELS[:1], {"compute": 1.0, "bandwidth": STREAM_SHARE})
    if gpu.link != "pcie":
        return alone
    return _nearest(gpu, alone, KERNEL_MODELS[1:], {"pcie_link": 1.0})


def _nearest(
    gpu: GpuType, known: Efficiency, models: Sequence[tuple[str, int]], most: dict[str, float]
) -> Efficiency:
    """``known`` with the shares named in ``most`` (and at most so) nearest to the kernel times."""
    from scipy.optimize import minimize

    bare = known.model_copy(update={"step_overhead_s": 0.0, "sequence_overhead_s": 0.0})
    specs = [(load_catalog().model(name), size) for name, size in models]
    sets = [(m, size, _kernel_points(m, gpu, size, bare)) for m, size in specs]

    def with_shares(x: Floats, of: Efficiency) -> Efficiency:
        values = zip(most.items(), np.exp(x), strict=True)
        return of.model_copy(update={n: min(float(v), top) for (n, top), v in values})

    def loss(x: Floats) -> float:
        efficiency = with_shares(x, bare)
        laws = [(step_time(m, gpu, size, efficiency), points) for m, size, points in sets]
        ratios = [p.predicted_s(law) / p.time_s for law, points in laws for p in points]
        return float(np.abs(np.log(ratios)).mean())

    guess = np.log([0.5] * len(most))
    found = minimize(loss, guess, method="Nelder-Mead", options={"xatol": 1e-4, "fatol": 1e-6})
    return _three_digits(with_shares(found.x, known))


def _share_pcie(generations: dict[str, Generation], share: float) -> None:
    """The share of PCIe that one generation's kernel times tell holds for all."""
    for name, known in generations.items():
        efficiency = known.efficiency.model_copy(update={"pcie_link": share})
        generations[name] = known.model_copy(update={"efficiency": efficiency})


def _kernel_points(
    model: ModelSpec, gpu: GpuType, size: int, efficiency: Efficiency
) -> list[Point]:
    estimated = roofline_profile(model, gpu, size, efficiency=efficiency)
    if isinstance(estimated, DoesNotFit):
        raise OrchestratorError(f"{model.name} {estimated.reason}")
    found = database_steps(model, estimated)
    if isinstance(found, NoData):
        raise OrchestratorError(found.reason)
    return found[0]


CPU_EFFICIENCY = Efficiency(compute=0.8, bandwidth=0.85, step_overhead_s=1e-3)
"""Nothing was published for CPUs: a rough guess without an error; measure the machine instead."""


def from_file(calibration: Calibration) -> Fit:
    """The figures of a data file, to predict runs with."""
    efficiency = {n: calibration.generations[n].efficiency for n in GENERATIONS}
    return Fit(efficiency, calibration.engines)


def _errors_on(fit: Fit, runs: Sequence[Run]) -> Errors:
    return errors(predict(fit, runs), runs)


def _left_out(runs: Sequence[Run]) -> Errors:
    """Errors on each generation's runs of figures fitted to the other: an unknown GPU's errors."""
    tests: list[Run] = []
    parts: list[Seen] = []
    for name in GENERATIONS:
        fit = fit_runs([r for r in runs if _generation(r) != name and not r.held_out], pooled=True)
        test = [r for r in runs if _generation(r) == name]
        parts.append(predict(fit, test))
        tests += test
    joined = Seen(
        np.concatenate([p.tpot_s for p in parts]),
        np.concatenate([p.ttft_s for p in parts]),
        np.concatenate([p.throughput_tps for p in parts]),
    )
    return errors(joined, tests)


class _Table:
    """Runs as arrays; runs that share a law share its computation, since a fit does it often."""

    def __init__(self, runs: Sequence[Run], *, default_law: bool = False) -> None:
        keys = [
            (r.model, r.gpu, r.tensor_parallel, r.engine)
            if r.model.experts is None or default_law
            else (r.model, r.gpu, r.tensor_parallel, r.engine, r.clients)
            for r in runs
        ]
        index = {repr(k): i for i, k in reversed(list(enumerate(keys)))}
        self._first = [runs[i] for i in index.values()]
        place = {key: i for i, key in enumerate(index)}
        self._law_of: NDArray[np.int64] = np.array([place[repr(k)] for k in keys], np.int64)
        self._default_law = default_law
        self._load = load_of(runs)
        self._engine = np.array([ENGINES.index(r.engine) for r in runs])
        self._layers = np.array([r.model.layers for r in runs], float)

    def predict(self, fit: Fit) -> Seen:
        laws = np.array([self._law(fit, run) for run in self._first])[self._law_of]
        costs = [fit.engines[e] for e in ENGINES]
        request = np.array([c.request_s for c in costs])[self._engine]
        per_layer = np.array([c.request_layer_s for c in costs])[self._engine]
        in_step = np.array([c.in_step for c in costs])[self._engine]
        return closed_loop(laws, self._load, request + per_layer * self._layers, in_step)

    def _law(self, fit: Fit, run: Run) -> tuple[float, float, float, float]:
        clients = None if self._default_law else run.clients
        law = coefficients(run.model, run.gpu, run.tensor_parallel, fit.of(run), clients)
        own = fit.engines[run.engine].step_overhead_s - fit.of(run).step_overhead_s
        return law[0] + own, law[1], law[2], law[3]


def load_of(runs: Iterable[Run]) -> Load:
    """The runs as arrays, with the KV cache that their replicas have."""
    runs = list(runs)
    return Load(
        np.array([r.clients for r in runs], float),
        np.array([r.input_tokens for r in runs], float),
        np.array([r.output_tokens for r in runs], float),
        np.array(
            [kv_capacity_tokens(r.model, r.gpu, r.tensor_parallel, EngineOptions()) for r in runs],
            float,
        ),
    )


def _generation(run: Run) -> str:
    return next(name for name, gpus in GENERATIONS.items() if run.gpu.name in gpus)


def _weights(runs: Sequence[Run]) -> Floats:
    """A run's weight: the fourth root of one over its triple's number, mean 1."""
    sizes = Counter(r.triple for r in runs)
    weight = np.array([sizes[r.triple] for r in runs], float) ** -0.25
    found: Floats = weight / weight.mean()
    return found


def _names(generations: Sequence[str]) -> list[tuple[str, str]]:
    """(owner, quantity) of each fitted number; the owner is a generation, an engine, or all."""
    own = [(g, n) for g in generations for n in PER_GENERATION]
    shared = [("", n) for n in START if n not in PER_GENERATION]
    return own + shared + [(e, n) for e in ENGINES for n in ENGINE_START]


def _limits(name: tuple[str, str]) -> tuple[float, float]:
    return (ENGINE_START if name[0] in ENGINES else START)[name[1]]


def _unpack(x: Floats, names: Sequence[tuple[str, str]], generations: Sequence[str]) -> Fit:
    values = dict(zip(names, np.minimum(np.exp(x), [_limits(n)[1] for n in names]), strict=True))
    engines = {e: EngineCosts(**{n: values[e, n] for n in ENGINE_START}) for e in ENGINES}
    shared = {n: v for (owner, n), v in values.items() if owner == ""}
    vllm = values["vllm", "step_overhead_s"]
    efficiency = {
        g: Efficiency(**shared, **{n: values[g, n] for n in PER_GENERATION}, step_overhead_s=vllm)
        for g in generations
    }
    return Fit(efficiency, engines)


def _rounded(fit: Fit) -> Fit:
    """Three digits of each figure, which is more than they are known to."""

    return Fit(
        {g: _three_digits(e) for g, e in fit.efficiency.items()},
        {e: _three_digits(c) for e, c in fit.engines.items()},
    )


def _three_digits(noun: N) -> N:
    return noun.model_copy(update={k: float(f"{v:.3g}") for k, v in noun})

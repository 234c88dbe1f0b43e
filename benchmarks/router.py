"""What the learned router gains on published outcomes, beside routers that know less.

    python -m benchmarks.router [--data DIR] [--quick | --splits N] [--only TASK] [--cache DIR]

Every figure is the mean over fresh splits by hash of the prompt, with its spread (standard
deviation over the splits) in brackets. Whatever is chosen (kernel width, penalties, calibration)
is chosen inside the training part. Scores of single answers are noisy: so are these figures.

Features are the default ones; MMLU is also tried with embeddings beside them, each under its own
key, and `mmlu_half_apgr` is that of the features which `mmlu_half_features` names.

APGR: area under the performance gap recovered, 0.5 at random, not capped at 1. Cost at 95 %: cost
(active parameters x output tokens) at which the router's hull reaches 95 % of the best single
model's score, over that model's cost. Zero router: the hull of the single models, at random
between them. Oracle: knows every score, lucky ones too. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np

from benchmarks import router_tasks as tasks
from benchmarks.router_cascades import Plan, choose_plan, judge, plans
from benchmarks.router_data import PROBES as PROBE_MODELS
from benchmarks.router_data import Told, cost_of
from benchmarks.router_decisions import learned_router_decisions
from benchmarks.router_tasks import Floats, Tables
from profiler.errors import InputError
from serve_apps.router.artefact import Artefact
from serve_apps.router.estimators.calibrated import CalibratedEstimator
from serve_apps.router.evaluation import metrics
from serve_apps.router.features.registry import build
from serve_apps.router.onboarding import choose_probes, onboard
from serve_apps.router.outcomes import Outcomes
from serve_apps.router.policies.base import Ask
from serve_apps.router.policies.utility import Utility
from serve_apps.router.prompts import Prompt
from serve_apps.router.training import train

Figures = dict[str, list[float]]
Task = Callable[[Tables, int], dict[str, float]]
PROBES = 50
TRAIN_SHARE = 0.5
FIRST_SEED = 14000
"""Splits of this seed on were not looked at while features and estimators were chosen."""
MMLU_FEATURES = ("text", "text+static", "text+static+sentence")
"""The default ones, and embeddings beside them: overhead is bounded for the default alone."""
HALF_FEATURES = "text+static+sentence"
"""What `mmlu_half_apgr` is of: the best on seeds 5000 to 5002, chosen there alone."""


@dataclass(frozen=True)
class Options:
    """Which data, how many splits."""

    data: Path
    splits: int
    only: str
    first_seed: int
    cache_dir: str


def main() -> None:
    """Print every figure, then all of them as JSON."""
    options = _options()
    with tempfile.TemporaryDirectory() as made:
        run(options, tasks.load(options.data, options.cache_dir or made))


def run(options: Options, tables: Tables) -> None:
    """As `main`, on these tables."""
    found: dict[str, float | str] = {}
    for title, task, most in TASKS:
        if options.only not in title:
            continue
        started = time.perf_counter()
        figures: Figures = defaultdict(list)
        count = min(options.splits, most)
        for seed in range(options.first_seed, options.first_seed + count):
            for name, value in task(tables, seed).items():
                figures[name].append(value)
        print(f"{title} ({count} splits, {time.perf_counter() - started:.0f} s)")
        for name, values in figures.items():
            print(f"  {name:34s} {np.mean(values):7.3f}  ({np.std(values):.3f})", flush=True)
            found[name] = round(float(np.mean(values)), 4)
    if "mmlu_half_apgr" in found:
        found["mmlu_half_features"] = HALF_FEATURES if HALF_FEATURES in usable() else "text"
    print(json.dumps(found))


def _options() -> Options:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=tasks.DATA)
    parser.add_argument("--quick", action="store_true", help="one split of each kind")
    parser.add_argument("--splits", type=int, default=10, help="splits of each small task")
    parser.add_argument("--only", default="", help="only tasks whose title has this text")
    parser.add_argument(
        "--first-seed", type=int, default=FIRST_SEED, help="seed of the first split"
    )
    parser.add_argument("--cache", default="", help="keep embeddings of prompts in this folder")
    given = parser.parse_args()
    splits = 1 if given.quick else given.splits
    return Options(given.data, splits, given.only, given.first_seed, given.cache)


def two_models(
    key: str, artefact: Artefact, test: Outcomes, weak: str, strong: str
) -> dict[str, float]:
    """APGR of the router by P(strong) - P(weak), of prompt length, and of the oracle."""
    estimates = artefact.only((weak, strong)).estimate(test.prompts)
    lead = estimates.quality[:, 1] - estimates.quality[:, 0]
    scores = test.only((weak, strong)).score
    w, s = scores[:, 0], scores[:, 1]
    length = np.array([float(len(p.text)) for p in test.prompts])
    return {
        key: metrics.apgr(lead, w, s),
        f"{key}: prompt length": metrics.apgr(length, w, s),
        f"{key}: oracle": metrics.apgr(s - w, w, s),
        f"{key}: share of calls at 95 %": _calls_at(lead, w, s, 0.95),
    }


def _calls_at(lead: Floats, weak: Floats, strong: Floats, share: float) -> float:
    """Least share of strong calls that reaches a share of the strong model's score."""
    curve = metrics.pgr_curve(lead, weak, strong)
    w, s = float(weak.mean()), float(strong.mean())
    return metrics.cost_to_reach(curve, (share * s - w) / (s - w)) if w < share * s else 0.0


def mmlu_1500(tables: Tables, seed: int) -> dict[str, float]:
    """1,500 labelled prompts; `mmlu_1500_apgr` is of the default features."""
    parts = tasks.split_count(tables.mmlu, 1500, seed)
    return _mmlu("mmlu_1500_apgr", *parts, "text", tables.cache_dir)


def mmlu_half(tables: Tables, seed: int) -> dict[str, float]:
    """Half of the prompts labelled; `mmlu_half_apgr` is of `HALF_FEATURES`."""
    parts = tasks.split(tables.mmlu, 0.5, seed)
    return _mmlu("mmlu_half_apgr", *parts, HALF_FEATURES, tables.cache_dir)


def _mmlu(
    key: str, train_on: Outcomes, test: Outcomes, chosen: str, cache_dir: str
) -> dict[str, float]:
    """By all features that are installed; ``chosen`` (or the default) has the key itself."""
    found: dict[str, float] = {}
    for features in usable():
        settings = {} if features == "text" else {"cache_dir": cache_dir}
        artefact = train(train_on, features=features, feature_settings=settings)
        figures = two_models(key, artefact, test, tasks.MIXTRAL, tasks.GPT4)
        found[f"{key}: {features}"] = figures[key]
        if features in (chosen, "text"):
            found |= figures
    return found


@cache
def usable() -> tuple[str, ...]:
    """Those of `MMLU_FEATURES` whose packages are installed; says which are left out, and why."""
    found = []
    for features in MMLU_FEATURES:
        try:
            build(features, {}).fit([Prompt("Are you there?")] * 2)
            found.append(features)
        except InputError as error:
            print(f"left out features {features}: {error}", flush=True)
    return tuple(found)


def mmlu_to_gsm8k(tables: Tables, seed: int) -> dict[str, float]:
    """Trained on nine tenths of MMLU for subjects unseen, tried on GSM8K."""
    train_on, _ = tasks.split(tables.mmlu, 0.9, seed)
    test = tasks.without(tables.gsm8k, train_on)
    artefact = train(train_on, group="subject")
    return two_models("mmlu_to_gsm8k_apgr", artefact, test, tasks.MIXTRAL, tasks.GPT4)


def unseen(tables: Tables, seed: int) -> dict[str, float]:
    """Trained on half of the subjects, tried on the others."""
    train_on, test = tasks.split_subjects(tables.mmlu, seed)
    artefact = train(train_on, group="subject")
    return two_models("unseen_apgr", artefact, test, tasks.MIXTRAL, tasks.GPT4)


def zeroeval(tables: Tables, seed: int) -> dict[str, float]:
    """Two ladders and three pools by one artefact over all models of the file."""
    table, params = tables.zeroeval, tables.params_b
    train_on, test = tasks.split(table, TRAIN_SHARE, seed)
    artefact = train(train_on)
    found = two_models("zeroeval_8b_70b_apgr", artefact, test, tasks.LLAMA_8B, tasks.LLAMA_70B)
    found["zeroeval_8b_70b_apgr: task alone"] = _by_task(
        train_on, test, tasks.LLAMA_8B, tasks.LLAMA_70B
    )
    found |= cascade("zeroeval_8b_70b_cascade_apgr", artefact, train_on, test, params)
    found |= two_models("zeroeval_70b_405b_apgr", artefact, test, tasks.LLAMA_70B, tasks.LLAMA_405B)
    found |= pool("zeroeval_cost_at_95", artefact, test, tasks.ZEROEVAL_POOL, params)
    found |= pool("zeroeval_mistral_at_95", artefact, test, tasks.ZEROEVAL_POOL_MISTRAL, params)
    found |= pool("zeroeval_qwen_at_95", artefact, test, tasks.ZEROEVAL_POOL_QWEN, params)
    return found | _errors("zeroeval", artefact)


def mmlu_pro(tables: Tables, seed: int) -> dict[str, float]:
    """A pool of seven by an artefact over all models of the file."""
    train_on, test = tasks.split(tables.mmlu_pro, 0.5, seed)
    artefact = train(train_on)
    found = pool("mmlu_pro_cost_at_95", artefact, test, tasks.MMLU_PRO_POOL, tables.params_b)
    return found | _errors("mmlu_pro", artefact)


def _by_task(train_on: Outcomes, test: Outcomes, weak: str, strong: str) -> float:
    """APGR of a router that knows only which task a prompt is of."""
    pair = train_on.only((weak, strong)).score
    gap = pair[:, 1] - pair[:, 0]
    of = np.array(train_on.dataset)
    mean = {d: float(np.nanmean(gap[of == d])) for d in set(train_on.dataset)}
    scores = test.only((weak, strong)).score
    return metrics.apgr(np.array([mean[d] for d in test.dataset]), scores[:, 0], scores[:, 1])


def _errors(name: str, artefact: Artefact) -> dict[str, float]:
    told = artefact.description
    return {
        f"{name}: calibration error": told.ece or 0.0,
        f"{name}: Brier": told.brier or 0.0,
        f"{name}: Brier of the means": told.brier_of_mean or 0.0,
    }


def pool(
    key: str, artefact: Artefact, test: Outcomes, models: tuple[str, ...], params: dict[str, float]
) -> dict[str, float]:
    """Cost at 95 % of the best single model's score; never worse: the least lead over costs."""
    test = tasks.complete(test, models)
    quality, cost = test.only(models).score, tasks.compute(test, models, params)
    estimates = artefact.only(models).estimate(test.prompts)
    price = estimates.output_tokens * np.array([params[m] for m in models])
    curve = metrics.tradeoff_curve(estimates.quality, price, quality, cost)
    zero = metrics.zero_router(quality, cost)
    oracle = metrics.tradeoff_curve(quality, cost, quality, cost)
    alone = metrics.upper_hull(curve.cost, curve.quality)
    # A router may also be set to one model whatever is asked: those settings are its own too.
    settings = (
        np.append(curve.cost, cost.mean(axis=0)),
        np.append(curve.quality, quality.mean(axis=0)),
    )
    hull = metrics.upper_hull(*settings)
    costs = np.linspace(*metrics.cost_range(quality, cost), 200)[1:]
    return {
        key: metrics.cost_at_quality(hull, quality, cost, 0.95),
        f"{key}: at 100 %": metrics.cost_at_quality(hull, quality, cost, 1.0),
        f"{key}: zero router": metrics.cost_at_quality(zero, quality, cost, 0.95),
        f"{key}: oracle": metrics.cost_at_quality(oracle, quality, cost, 0.95),
        f"{key}: least lead over zero": float((hull.at(costs) - zero.at(costs)).min()),
        f"{key}: least lead, estimates alone": float((alone.at(costs) - zero.at(costs)).min()),
        f"{key}: mean lead over zero": float((hull.at(costs) - zero.at(costs)).mean()),
        f"{key}: way to the oracle": metrics.oracle_share(hull, quality, cost),
    }


def cascade(
    key: str, artefact: Artefact, train_on: Outcomes, test: Outcomes, params: dict[str, float]
) -> dict[str, float]:
    """Small models answer first and their agreement tells when to escalate.

    Whom to ask, in which order, and whose answer may stand is chosen on a third of the training
    prompts, by APGR over cost. Strong calls are counted with probes for free, cost with them paid.
    """
    models = (*PROBE_MODELS, tasks.LLAMA_8B, tasks.LLAMA_70B)
    estimator = artefact.estimator
    assert isinstance(estimator, CalibratedEstimator) and estimator.cross_fitted is not None
    at = [artefact.models.index(m) for m in models]
    known = artefact.only(models).estimate(train_on.prompts)
    fair = replace(known, quality=estimator.cross_fitted[:, at])
    told = Told(
        train_on.only(models), fair, test.only(models), artefact.only(models).estimate(test.prompts)
    )
    cost = cost_of(params)
    tried = plans(tasks.LLAMA_8B, PROBE_MODELS)
    chosen, _ = choose_plan(told, tried, tasks.LLAMA_8B, tasks.LLAMA_70B, cost)
    found = judge(told, chosen, tasks.LLAMA_8B, tasks.LLAMA_70B, cost)
    simple = Plan((tasks.LLAMA_8B, tasks.PROBE), anyone=False)
    fixed = judge(told, simple, tasks.LLAMA_8B, tasks.LLAMA_70B, cost, every=40)
    return {
        key: found.by_calls,
        f"{key}: by cost": found.by_cost,
        f"{key}: 8B then gemma": fixed.by_calls,
    }


def onboarding(tables: Tables, seed: int) -> dict[str, float]:
    """A model unknown to the artefact joins by 50 probes; its gain over having all its labels."""
    table = tables.zeroeval
    train_on, test = tasks.split(table, TRAIN_SHARE, seed)
    full = train(train_on)
    gains: dict[str, list[float]] = defaultdict(list)
    for weak, new in NEWCOMERS:
        known = train_on.only([m for m in train_on.models if m != new])
        artefact = train(known)
        score = train_on.only((new,)).score[:, 0]
        for count in (20, PROBES):
            rows = choose_probes(artefact, known.prompts, count, known.score)
            grown = onboard(
                artefact,
                new,
                [known.prompts[i] for i in rows],
                score[rows],
                scores=known.score[rows],
            )
            gains[f"{count} probes"].append(_gain(grown, test, weak, new))
        gains["all labels"].append(_gain(full, test, weak, new))
    every = float(np.mean(gains["all labels"]))
    return {
        "onboard_50_share": float(np.mean(gains[f"{PROBES} probes"])) / every,
        "onboard_20_share": float(np.mean(gains["20 probes"])) / every,
        "onboarding: APGR with all labels": 0.5 + every,
    }


NEWCOMERS = (
    (tasks.LLAMA_8B, tasks.LLAMA_70B),
    (tasks.LLAMA_70B, tasks.LLAMA_405B),
    ("Qwen2-7B-Instruct", "Qwen2-72B-Instruct"),
    ("gemma-2-2b-it", "gemma-2-27b-it"),
)
"""(known weak model, newcomer)."""


def _gain(artefact: Artefact, test: Outcomes, weak: str, strong: str) -> float:
    return two_models("apgr", artefact, test, weak, strong)["apgr"] - 0.5


def overhead(tables: Tables, seed: int) -> dict[str, float]:
    """Features, estimates and choice of one prompt, in microseconds of one core's time.

    Time of this thread, so that other programs on the machine do not count; the wall's beside it.
    """
    train_on, test = tasks.split(tables.zeroeval, TRAIN_SHARE, seed)
    started = time.process_time()
    artefact = train(train_on)
    trained_s = time.process_time() - started
    view = artefact.only(tasks.ZEROEVAL_POOL)
    worth = 1e5
    sizes = np.array([tables.params_b[m] for m in view.models])

    def decide(first: int, count: int) -> None:
        estimates = view.estimate(test.prompts[first : first + count])
        price = estimates.output_tokens * sizes
        for q, p in zip(estimates.quality.tolist(), price.tolist(), strict=True):
            Utility(worth).choose(Ask(view.models, q, p))

    one = np.array(list(_timed(decide, len(test.prompts), 1))[50:])
    many = np.array(list(_timed(decide, len(test.prompts) - 64, 64))[5:])
    routed = learned_router_decisions(artefact, test.prompts)
    return {
        "decision_p50_us": float(np.quantile(one[:, 0], 0.5)),
        "decision_p99_us": float(np.quantile(one[:, 0], 0.99)),
        "decision_wall_p50_us": float(np.quantile(one[:, 1], 0.5)),
        "decision_wall_p99_us": float(np.quantile(one[:, 1], 0.99)),
        "batch_64_p50_us": float(np.quantile(many[:, 0], 0.5)),
        "learned router: route, p50 us": routed.p50_us,
        "learned router: route, p99 us": routed.p99_us,
        "zeroeval: training, CPU seconds": trained_s,
    }


def _timed(
    decide: Callable[[int, int], None], last: int, count: int
) -> Iterator[tuple[float, float]]:
    step = max(1, count // 2)
    for first in range(0, last, step):
        wall, cpu = time.perf_counter(), time.thread_time()
        decide(first, count)
        yield (time.thread_time() - cpu) * 1e6, (time.perf_counter() - wall) * 1e6


TASKS: tuple[tuple[str, Task, int], ...] = (
    ("MMLU, GPT-4 or Mixtral, 1,500 prompts labelled", mmlu_1500, 10),
    ("MMLU, half labelled", mmlu_half, 5),
    ("MMLU to GSM8K", mmlu_to_gsm8k, 5),
    ("MMLU, subjects unseen", unseen, 20),
    ("ZeroEval, 56 models, half labelled", zeroeval, 10),
    ("MMLU-Pro, 29 models, half labelled", mmlu_pro, 5),
    ("Onboarding on ZeroEval", onboarding, 5),
    ("Overhead", overhead, 1),
)
"""What is shown, and on how many splits at most."""

if __name__ == "__main__":
    main()

"""What `orchestrator router train-load` does: a load policy for a plan, and its trial."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from orchestrator.simulator import Floats
from placement.plan import AUTO, Plan
from profiler.errors import InputError, UnknownNameError
from serve_apps.router.load_values import LoadValues, Pool, pool_of
from serve_apps.router.outcomes import Outcomes

FOLDS = 3
SPREAD = 1.5
"""Of difficulty, in the units of the assumed models' strength."""


def require_torch() -> None:
    """
    Raises:
        InputError: it is not installed.
    """
    try:
        import torch  # noqa: F401
    except ImportError:
        raise InputError(
            "training a load policy needs PyTorch; pip install 'llm-orchestrator[train]' (serving "
            "with one needs only NumPy)"
        ) from None


def train_load(
    plan: Plan,
    *,
    quality: Floats | None,
    minutes: float,
    seed: int = 0,
    trials: int = 24,
    on_progress: Callable[[int, int], None] = lambda _episodes, _requests: None,
) -> LoadValues:
    """Practise in the simulator for so many minutes, then be tried beside the priced policy.

    ``quality``: predicted scores ``[prompts, models]`` in the order of `pool_of`, None to assume
    some. ``on_progress`` is told episodes and requests so far.

    Raises:
        InputError: PyTorch is missing, or the plan gives no choice of models.
    """
    require_torch()
    pool = checked_pool(plan)
    from orchestrator.simulation.load_episodes import sizes_of
    from orchestrator.simulation.load_learning import Practice, learn

    rng = np.random.default_rng([seed, 2])
    known = assumed_quality(plan, pool, 2000, rng) if quality is None else quality

    def draw(count: int, rng: np.random.Generator) -> Floats:
        drawn: Floats = known[rng.integers(len(known), size=count)]
        return drawn

    practice = Practice(plan, pool, sizes_of(plan, rng), draw)
    return learn(
        practice,
        seconds=60 * minutes,
        seed=seed,
        trials=trials,
        on_progress=lambda p: on_progress(p.episodes, p.requests),
    )


def checked_pool(plan: Plan) -> Pool:
    """
    Raises:
        InputError: one model only, or nobody may leave the choice to the router.
    """
    pool = pool_of(plan)
    if len(pool.models) < 2:
        raise InputError(
            f"the plan {plan.service!r} serves one model ({pool.models[0]}); expected at least two "
            "to choose between under load"
        )
    if not any(r.stream == AUTO for r in plan.routes):
        raise InputError(
            f"the plan {plan.service!r} has no route for requests that name no model ({AUTO!r}); "
            "there is nothing for a load policy to choose"
        )
    return pool


def predicted_quality(outcomes: Outcomes, pool: Pool, columns: Mapping[str, str]) -> Floats:
    """Cross-fitted estimates of the pool's models on each prompt that all of them answered.

    ``columns`` names a model's column where it is called otherwise in the table.

    Raises:
        InputError: no prompt was answered by all.
        UnknownNameError: the table lacks a model, or ``columns`` names none of the pool.
    """
    from serve_apps.router.estimators.registry import build
    from serve_apps.router.evaluation.contenders import cross_fitted, learned
    from serve_apps.router.features.text import TextFeatures

    for name in columns:
        if name not in pool.models:
            raise UnknownNameError("model of the plan", name, pool.models)
    wanted = [columns.get(m, m) for m in pool.models]
    for name in wanted:
        if name not in outcomes.models:
            raise UnknownNameError("model of the outcome table", name, outcomes.models)
    table = outcomes.only(wanted)
    whole = np.flatnonzero(np.isfinite(table.score).all(axis=1))
    if len(whole) < 10 * FOLDS:
        raise InputError(
            f"found {len(whole)} prompts that all of {', '.join(wanted)} answered, expected at "
            f"least {10 * FOLDS}"
        )
    contender = learned("text + low rank", TextFeatures(), build("low_rank", {}))
    found = cross_fitted(contender, table.rows(whole), np.random.default_rng(0), folds=FOLDS)
    return found.only(wanted).quality


def assumed_quality(plan: Plan, pool: Pool, prompts: int, rng: np.random.Generator) -> Floats:
    """Chances of a right answer where nobody graded any: more with size, less with difficulty.

    A logistic curve; tenfold parameters are worth one unit of difficulty, the largest model does
    four of five prompts. Assumed, not measured.
    """
    size = np.log10([plan.models[m].total_params for m in pool.models])
    difficulty = rng.normal(0.0, SPREAD, prompts)
    strength = 2.0 + size - size.max()
    chance: Floats = 1 / (1 + np.exp(-(strength[None, :] - difficulty[:, None])))
    return chance

"""An artefact's exchange rate between quality and cost, found for a target in the user's terms."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from orchestrator.routing_costs import USD, Costs
from orchestrator.routing_eval import expected_price
from profiler.errors import InfeasibleError, InputError
from serve_apps.router.artefact import Artefact
from serve_apps.router.calibrating import Outlook, Tried, try_all
from serve_apps.router.evaluation.evaluate import complete
from serve_apps.router.outcomes import Outcomes
from serve_apps.router.settings import Setting

LEAST_PROMPTS = 30


@dataclass(frozen=True)
class Target:
    """Either a share of the best single model's quality, or US dollars per 1,000 requests."""

    quality: float | None = None
    usd_per_1k: float | None = None

    def __str__(self) -> str:
        if self.quality is not None:
            return f"quality={self.quality:g}"
        return f"cost={self.usd_per_1k:g}"


@dataclass(frozen=True)
class Calibrated:
    """The artefact with its setting, and what to expect of it on ``prompts`` prompts."""

    artefact: Artefact
    setting: Setting
    outlook: Outlook
    best: str
    prompts: int


def calibration_part(artefact: Artefact, outcomes: Outcomes, *, everything: bool) -> Outcomes:
    """The prompts that neither training nor the test uses, answered by the artefact's whole pool.

    ``everything``: all of them, for tables that training never saw.

    Raises:
        InputError: too few of them, or a model without outcomes.
    """
    common = complete(outcomes.only(artefact.models))
    split = artefact.description.split
    if everything:
        kept = common
    elif split is None or not split.share:
        raise InputError(
            "the artefact was trained without holding prompts back, so none is left to calibrate "
            "on; give a table of prompts it never saw and --all, or train with --holdout 0.2"
        )
    else:
        kept = common.rows(split.parts(common).calibration)
    if len(kept.prompts) < LEAST_PROMPTS:
        raise InputError(
            f"found {len(kept.prompts)} prompts to calibrate on that every model answered, "
            f"expected at least {LEAST_PROMPTS}; give more outcomes, or --all if training never "
            "saw them"
        )
    return kept


def calibrate(
    artefact: Artefact, outcomes: Outcomes, costs: Costs, target: Target, seed: int = 0
) -> Calibrated:
    """The cheapest setting that reaches the target on these prompts.

    Raises:
        InputError: a cost in dollars where dollars are unknown.
        InfeasibleError: no setting reaches it; the message has the nearest.
    """
    if target.usd_per_1k is not None and costs.unit != USD:
        raise InputError(
            f"--cost is in dollars, and costs here are {costs.source}; give --price "
            "NAME=INPUT/OUTPUT for every model, or --plan plan.yaml"
        )
    told = artefact.estimate(outcomes.prompts)
    price = expected_price(told, outcomes.prompts, costs)
    tried = try_all(told.quality, price, outcomes.score, costs.spent(outcomes))
    worth = _worth(tried, target, artefact.models[tried.best], costs)
    outlook = tried.outlook(worth, np.random.default_rng(seed))
    mix = {m: i.value for m, i in zip(artefact.models, outlook.mix, strict=True)}
    setting = Setting(
        worth=worth,
        unit=costs.unit,
        rates={m: costs.rates[m] for m in artefact.models},
        target=str(target),
        quality=outlook.quality.value,
        cost=outlook.cost.value,
        prompts=len(outcomes.prompts),
        mix=mix,
        ladder=tried.ladder(),
    )
    described = replace(artefact.description, setting=setting)
    return Calibrated(
        replace(artefact, description=described),
        setting,
        outlook,
        artefact.models[tried.best],
        len(outcomes.prompts),
    )


def _worth(tried: Tried, target: Target, best: str, costs: Costs) -> float:
    rng = np.random.default_rng(0)
    if target.quality is not None:
        found = tried.cheapest_with(target.quality)
        if found is None:
            nearest = tried.outlook(tried.of_highest_quality, rng, draws=200)
            raise InfeasibleError(
                f"--quality {target.quality:g}: no setting of this router reaches it; the nearest "
                f"is {nearest.share.value:.3f} of {best}'s quality "
                f"[{nearest.share.low:.3f}, {nearest.share.high:.3f}] at "
                f"{nearest.cost_share.value:.0%} of its cost; pass --quality "
                f"{math.floor(nearest.share.value * 1000) / 1000:g}, or send all to {best}"
            )
        return found
    assert target.usd_per_1k is not None
    found = tried.best_within(target.usd_per_1k / 1e3)
    if found is None:
        nearest = tried.outlook(tried.of_least_cost, rng, draws=200)
        raise InfeasibleError(
            f"--cost {target.usd_per_1k:g}: no setting is so cheap; the cheapest costs "
            f"{per_1k(nearest.cost.value, costs.unit)} at {nearest.share.value:.1%} of {best}'s "
            "quality"
        )
    return found


def per_1k(cost: float, unit: str) -> str:
    """A mean cost per request as the user reads it."""
    if unit == USD:
        return f"${cost * 1e3:,.4g} per 1k requests"
    if unit == "relative":
        return f"{cost:,.4g} (10^9 parameters x tokens)"
    return f"{cost:.1%} strong calls"

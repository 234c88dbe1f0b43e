"""What answers cost: the table's own dollars, given prices, a plan's, or parameters at work."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from placement.plan import Plan
from profiler.errors import InputError, UnknownNameError
from serve_apps.router.estimators.lengths import UNKNOWN_TOKENS
from serve_apps.router.outcomes import Floats, Outcomes
from serve_apps.router.prompts import Prompt
from serve_apps.router.settings import Rates

BYTES_PER_TOKEN = 4.0
"""Assumed of prompts whose tokens were not counted."""
USD = "USD"
RELATIVE = "relative"
CALLS = "strong calls"
Price = tuple[float, float]
"""US dollars per million input and output tokens."""


@dataclass(frozen=True)
class Costs:
    """Cost of answers in one unit; ``source`` says in words where the figures come from.

    ``unit``: "USD", "relative" (10^9 parameters at work x tokens), or "strong calls".
    """

    unit: str
    rates: Mapping[str, Rates]
    source: str
    from_table: bool = False

    def price(self, models: Sequence[str], inputs: Floats, outputs: Floats) -> Floats:
        """Of answers of these lengths, ``[prompts, models]``; ``inputs`` is ``[prompts]``."""
        per_input, per_output, per_request = self._table(models)
        return np.asarray(inputs[:, None] * per_input + outputs * per_output + per_request)

    def spent(self, outcomes: Outcomes) -> Floats:
        """What the answers of a table cost; NaN where a model was not run.

        Dollars of the table win; an answer of unknown length counts as its model's mean.
        """
        per_input, per_output, per_request = self._table(outcomes.models)
        found = (
            input_matrix(outcomes) * per_input + _filled_lengths(outcomes) * per_output
        ) + per_request
        if self.unit == USD:
            found = np.where(np.isfinite(outcomes.usd), outcomes.usd, found)
        return np.where(np.isfinite(outcomes.score), found, np.nan)

    def _table(self, models: Sequence[str]) -> Floats:
        missing = [m for m in models if m not in self.rates]
        if missing:
            raise InputError(f"found no price of {missing[0]!r}; give --price {missing[0]}=IN/OUT")
        return np.array([self.rates[m] for m in models]).T


def costs_of(
    outcomes: Outcomes, prices: Mapping[str, Price] | None = None, plan: Plan | None = None
) -> Costs:
    """The first that is known: the table's dollars, ``prices``, ``plan``, active parameters.

    Raises:
        InputError: a price that names no model, or models whose cost nothing tells.
    """
    prices = prices or {}
    for name in prices:
        if name not in outcomes.models:
            raise UnknownNameError("model", name, outcomes.models, mend="(in --price)")
    paid = np.isfinite(outcomes.usd) & np.isfinite(outcomes.score)
    if paid.any(axis=0).all():
        return Costs(USD, _rates_paid(outcomes), "dollars of the outcome table", from_table=True)
    found = costs_of_models(outcomes.models, prices, plan)
    if found is not None:
        return replace(found, source=found.source + _on_lengths(outcomes))
    if len(outcomes.models) == 2:
        strong = int(np.nanmean(outcomes.score, axis=0).argmax())
        calls = {m: (0.0, 0.0, float(i == strong)) for i, m in enumerate(outcomes.models)}
        return Costs(CALLS, calls, f"share of calls of {outcomes.models[strong]}")
    unknown = [m for m in outcomes.models if active_parameters(m) is None]
    raise InputError(
        f"cost: nothing tells what {_some(unknown)} cost; give --price NAME=INPUT/OUTPUT (USD per "
        "million tokens) for every model, or --plan plan.yaml, or leave them out with --models"
    )


def costs_of_models(
    models: Sequence[str], prices: Mapping[str, Price] | None = None, plan: Plan | None = None
) -> Costs | None:
    """From ``prices``, a ``plan`` or active parameters, the first given; None: nothing tells.

    Raises:
        InputError: some models have a price and others have none.
    """
    if prices:
        for name in prices:
            if name not in models:
                raise UnknownNameError("model", name, models, mend="(in --price)")
        if missing := [m for m in models if m not in prices]:
            raise InputError(
                f"--price: found none for {', '.join(missing)}; give every model's, such as "
                f"--price {missing[0]}=0.50/1.50"
            )
        rates = {m: (prices[m][0] / 1e6, prices[m][1] / 1e6, 0.0) for m in models}
        return Costs(USD, rates, "prices given")
    if plan is not None:
        return Costs(USD, plan_rates(plan, models), f"prices of plan {plan.service}")
    sizes = {m: active_parameters(m) for m in models}
    if any(size is None for size in sizes.values()):
        return None
    relative = {m: (0.0, float(size or 0) / 1e9, 0.0) for m, size in sizes.items()}
    return Costs(RELATIVE, relative, "relative: active parameters (10^9) x output tokens")


def _rates_paid(outcomes: Outcomes) -> dict[str, Rates]:
    """Non-negative least squares of dollars on tokens; without tokens, the mean per request."""
    from scipy.optimize import nnls

    found: dict[str, Rates] = {}
    for m, model in enumerate(outcomes.models):
        usd, tokens = outcomes.usd[:, m], outcomes.output_tokens[:, m]
        known = np.isfinite(usd) & np.isfinite(tokens)
        if known.sum() >= 2:
            x = np.stack([input_matrix(outcomes)[known, m], tokens[known]], axis=1)
            (per_input, per_output), _ = nnls(x, usd[known])
            found[model] = (float(per_input), float(per_output), 0.0)
        else:
            found[model] = (0.0, 0.0, float(np.nanmean(usd)))
    return found


def plan_rates(plan: Plan, models: Sequence[str]) -> dict[str, Rates]:
    """US dollars per token: each model's cheapest group at the plan's price of load.

    load x price, over the sizes of the plan's classes, fitted by a non-negative multiple of input
    and output tokens, each size counted by its relative error. Without prices in the plan the
    price of load is a replica's rent over the headroom.

    Raises:
        InputError: a model has no group there, or no size that it may serve.
    """
    from scipy.optimize import nnls

    from profiler.rates import max_rates

    sizes = sorted({(r.bucket.input_tokens, r.bucket.output_tokens) for r in plan.routes})
    inputs, outputs = np.array(sizes, dtype=float).T
    load_price = plan.prices.load if plan.prices else {}
    found: dict[str, Rates] = {}
    for model in models:
        groups = [g for g in plan.groups if g.config.model == model]
        if not groups:
            hosted = {g.config.model for g in plan.groups}
            raise UnknownNameError("model", model, hosted, mend="(in --plan)")
        usd = np.full(len(sizes), np.inf)
        for g in groups:
            rate = max_rates(g.profile, inputs, outputs, plan.slo).rate_rps
            hourly = load_price.get(g.name, g.usd_per_hour / plan.headroom)
            with np.errstate(divide="ignore"):
                usd = np.minimum(usd, np.where(rate > 0, hourly / 3600 / rate, np.inf))
        served = np.isfinite(usd) & (usd > 0)
        if not served.any():
            raise InputError(f"--plan: {model} serves no request size of the plan inside its SLO")
        x = np.stack([inputs, outputs], axis=1)[served] / usd[served, None]
        (per_input, per_output), _ = nnls(x, np.ones(int(served.sum())))
        found[model] = (float(per_input), float(per_output), 0.0)
    return found


def _some(names: Sequence[str], most: int = 4) -> str:
    rest = f" and {len(names) - most} more models" if len(names) > most else ""
    return ", ".join(names[:most]) + rest


def active_parameters(name: str) -> float | None:
    """Of the model catalog, else of the size in the name (``8B``; not ``8x7B``); None: unknown."""
    from profiler.catalog import load_catalog

    catalog = load_catalog()
    for tried in (name, name.rpartition("/")[2]):
        for key, spec in catalog.models.items():
            if key.casefold() == tried.casefold():
                return float(spec.active_params)
    sizes = re.findall(r"(?<![\w.])(\d+(?:\.\d+)?)[bB](?![a-zA-Z0-9])", name)
    return float(sizes[0]) * 1e9 if len(sizes) == 1 else None


def prompt_tokens(prompts: Sequence[Prompt]) -> Floats:
    """Estimated tokens of each prompt, ``[prompts]``."""
    sizes = [len((p.system + p.text).encode("utf-8", "replace")) for p in prompts]
    return np.maximum(np.array(sizes, dtype=float) / BYTES_PER_TOKEN, 1.0)


def input_matrix(outcomes: Outcomes) -> Floats:
    """Input tokens ``[prompts, models]``, estimated where the table has none."""
    known = outcomes.input_tokens
    return np.where(np.isfinite(known), known, prompt_tokens(outcomes.prompts)[:, None])


def _on_lengths(outcomes: Outcomes) -> str:
    """A remark where lengths of answers had to be assumed."""
    run = np.isfinite(outcomes.score)
    share = float(np.isfinite(outcomes.output_tokens[run]).mean())
    if share == 0:
        return f"; lengths of answers unknown, taken as {UNKNOWN_TOKENS:.0f} tokens"
    return f"; {1 - share:.0%} of answers of unknown length" if share < 0.995 else ""


def _filled_lengths(outcomes: Outcomes) -> Floats:
    tokens = outcomes.output_tokens
    known = np.isfinite(tokens)
    overall = float(tokens[known].mean()) if known.any() else UNKNOWN_TOKENS
    total = np.where(known, tokens, 0.0).sum(axis=0)
    count = known.sum(axis=0)
    mean = np.where(count > 0, total / np.maximum(count, 1), overall)
    return np.where(known, tokens, mean)

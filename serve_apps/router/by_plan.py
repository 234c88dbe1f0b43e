"""Models and groups by the plan's shares and prices, for requests whose quality was estimated."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from serve_apps.router.balance import Balance, starting_biases
from serve_apps.router.classes import PlanClass
from serve_apps.router.offers import Market, Offer
from serve_apps.router.quota import Quota

Floats = NDArray[np.float64]
FAR = 1e9
"""Dollars: stands for the price of what cannot be served, where a number is needed."""


@dataclass(frozen=True)
class _Split:
    """A class that several models share.

    ``worth`` is its own, or where quality costs nothing at the margin any positive one: what is
    dealt out in fixed shares goes to those who gain most all the same.
    """

    worth: float
    balance: Balance


class ByPlan:
    """Keeps the plan's shares of each class while prices are the plan's.

    What a model's price gains or loses against the plan's moves requests, those nearest to the
    edge first. A model that the plan does not use for a class stands, at the plan's prices, no
    better than those that it uses.
    """

    def __init__(
        self, classes: Iterable[PlanClass], market: Market, quality: Floats, bins: NDArray[np.int64]
    ) -> None:
        """``quality`` [prompts, pool] of prompts like those to come, and the bin of each."""
        self._market = market
        self._quotas: dict[tuple[str, str, frozenset[str]], Quota] = {}
        self._splits = {
            c.label: self._balance(
                c, quality if c.difficulty is None else quality[bins == c.difficulty]
            )
            for c in classes
            if len(c.models) > 1
        }

    def calm_choice(self, found: PlanClass, offers: Mapping[str, Offer]) -> str:
        """The model that the request would have at the plan's prices, with every group there."""
        split = self._splits.get(found.label)
        worth = split.worth if split else found.worth

        def standing(model: str) -> float:
            offer, bias = offers[model], split.balance.bias(model) if split else 0.0
            return worth * offer.quality - offer.planned_price + bias

        return max((m for m in found.models if m in offers), key=standing, default="")

    def choose(
        self,
        found: PlanClass,
        offers: Mapping[str, Offer],
        avoid: Collection[str],
        importance: float = 1.0,
    ) -> tuple[str, str]:
        """The model, and why; some offer must have a group.

        ``importance`` divides what prices have risen by, as if quality were worth so much more.
        """
        split = self._splits.get(found.label)
        worth = split.worth if split else found.worth
        utilities = {m: worth * o.quality - o.planned_price for m, o in offers.items() if o.groups}
        standing = {
            m: u + (split.balance.bias(m) if split else 0.0)
            for m, u in utilities.items()
            if m in found.models
        }
        moved = {m: offers[m].price - offers[m].planned_price for m in utilities}
        quiet = self._market.prices.calm and min(moved.values()) >= 0
        if not quiet or not standing:
            most = max(standing.values(), default=float("inf"))
            standing |= {m: min(u, most) for m, u in utilities.items() if m not in standing}
        chosen = max(standing, key=lambda m: standing[m] - moved[m] / importance)
        if split is not None and quiet and not avoid and chosen in found.models:
            split.balance.took(chosen, {m: utilities[m] for m in found.models if m in utilities})
        return chosen, _reason(found, chosen, offers, quiet=quiet)

    def group(self, found: PlanClass, model: str, groups: Mapping[str, float]) -> str:
        """By turns in the plan's shares while its prices hold; else the cheapest."""
        if len(groups) == 1:
            return next(iter(groups))
        planned = {g: s for g, s in found.groups.get(model, {}).items() if g in groups}
        if not planned or not self._market.prices.calm:
            return min(groups, key=groups.__getitem__)
        key = found.label, model, frozenset(planned)
        if key not in self._quotas:
            self._quotas[key] = Quota(planned)
        return self._quotas[key].next()

    def _balance(self, c: PlanClass, quality: Floats) -> _Split:
        models = list(c.models)
        size = c.bucket.input_tokens, c.bucket.output_tokens
        price = np.array([self._market.planned_price(m, *size, c.slo) for m in models])
        price = np.where(np.isfinite(price), price, FAR)
        worth = c.worth or float(price.min())
        biases, scale = np.zeros(len(models)), 0.0
        if len(quality):
            expected = quality[:, [self._market.position[m] for m in models]]
            shares = np.array(list(c.models.values()))
            biases, scale = starting_biases(worth * expected - price, shares)
        start = dict(zip(models, biases.tolist(), strict=True))
        return _Split(worth, Balance(c.models, start, scale))


def _reason(found: PlanClass, chosen: str, offers: Mapping[str, Offer], *, quiet: bool) -> str:
    offer = offers[chosen]
    where = f"{found.models.get(chosen, 0.0):.0%} of {found.label}"
    if not quiet:
        where += ", at today's prices"
    others = [(m, o) for m, o in offers.items() if m != chosen and o.groups]
    if not others:
        return f"{where}: quality {offer.quality:.2f}, the only one"
    name, best = max(others, key=lambda pair: found.worth * pair[1].quality - pair[1].price)
    gain, price = offer.quality - best.quality, offer.price - best.price
    return f"{where}: quality {gain:+.2f} for ${price:+.2g} against {name}"

"""Models and groups by the plan's shares and prices, for requests whose quality was estimated."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
from numpy.typing import NDArray

from serve_apps.router.balance import Balance, starting_biases
from serve_apps.router.classes import PlanClass
from serve_apps.router.load_policies import ModelOption
from serve_apps.router.offers import Market, Offer
from serve_apps.router.quota import Quota

Floats = NDArray[np.float64]
FAR = 1e9
"""Dollars: stands for the price of what cannot be served, where a number is needed."""


class ByPlan:
    """What the plan has to say of each class: who answers, in which shares, what quality is worth.

    In a quiet hour its shares are kept; see `load_policies.Priced` for what load changes.
    """

    def __init__(
        self, classes: Iterable[PlanClass], market: Market, quality: Floats, bins: NDArray[np.int64]
    ) -> None:
        """``quality`` [prompts, pool] of prompts like those to come, and the bin of each."""
        self._market = market
        self._quotas: dict[tuple[str, str, frozenset[str]], Quota] = {}
        classes = tuple(classes)
        self._worths = {c.label: c.worth or self._least_price(c) for c in classes}
        """Where quality costs nothing at the margin any positive worth: what is dealt out in fixed
        shares goes to those who gain most all the same, and who must move loses least."""
        self._balances = {
            c.label: self._balance(
                c, quality if c.difficulty is None else quality[bins == c.difficulty]
            )
            for c in classes
            if len(c.models) > 1
        }

    def calm_choice(self, found: PlanClass, offers: Mapping[str, Offer]) -> str:
        """The model that the request would have at the plan's prices, with every group there."""
        balance, worth = self._balances.get(found.label), self.worth_usd(found)

        def standing(model: str) -> float:
            offer, bias = offers[model], balance.bias(model) if balance else 0.0
            return worth * offer.quality - offer.planned_price + bias

        return max((m for m in found.models if m in offers), key=standing, default="")

    def worth_usd(self, found: PlanClass) -> float:
        """Of a unit of quality of such a request; positive, see `_worth`."""
        return self._worths[found.label]

    def options(
        self, found: PlanClass, offers: Mapping[str, Offer], *, occupied: bool
    ) -> list[ModelOption]:
        """The offers as a load policy sees them; those without a group are not feasible.

        ``occupied``: what is in flight and queued is wanted as well.
        """
        balance = self._balances.get(found.label)
        return [self._option(m, o, found, balance, occupied=occupied) for m, o in offers.items()]

    def _option(
        self,
        model: str,
        offer: Offer,
        found: PlanClass,
        balance: Balance | None,
        *,
        occupied: bool,
    ) -> ModelOption:
        planned = model in found.models
        in_flight, queued, slots = self._market.occupancy(model) if occupied else (0, 0, 0)
        return ModelOption(
            model,
            offer.quality,
            offer.price,
            offer.planned_price,
            offer.ttft_s,
            bool(offer.groups),
            offer.best,
            in_flight,
            queued,
            slots,
            offer.in_time,
            planned,
            balance.bias(model) if balance is not None and planned else 0.0,
        )

    def quiet(self, found: PlanClass, offers: Mapping[str, Offer], *, calm: bool) -> bool:
        """Whether nothing costs more than planned, or less, and the plan's models are in time."""
        if not calm:
            return False
        for model, o in offers.items():
            if not o.groups:
                continue
            if o.price < o.planned_price or (o.in_time < 1.0 and model in found.models):
                return False
        return True

    def took(self, found: PlanClass, model: str, options: Iterable[ModelOption]) -> None:
        """Note that a model got a request that it answers by the plan, in a quiet hour."""
        balance = self._balances.get(found.label)
        if balance is None or model not in found.models:
            return
        worth = self.worth_usd(found)
        utilities = {
            o.model: worth * o.quality - o.planned_price_usd
            for o in options
            if o.feasible and o.planned
        }
        balance.took(model, utilities)

    def group(self, found: PlanClass, model: str, offer: Offer) -> str:
        """By turns in the plan's shares while its prices hold; else the cheapest."""
        if len(offer.groups) == 1:
            return next(iter(offer.groups))
        planned = {g: s for g, s in found.groups.get(model, {}).items() if g in offer.groups}
        if not planned or not self._market.prices.calm:
            return offer.best
        key = found.label, model, frozenset(planned)
        if key not in self._quotas:
            self._quotas[key] = Quota(planned)
        return self._quotas[key].next()

    def _prices(self, c: PlanClass) -> Floats:
        """Of a request of the class's size, by the plan, ``[models of the class]``."""
        size = c.bucket.input_tokens, c.bucket.output_tokens
        price = np.array([self._market.planned_price(m, *size, c.slo) for m in c.models])
        return np.where(np.isfinite(price), price, FAR)

    def _least_price(self, c: PlanClass) -> float:
        return float(self._prices(c).min())

    def _balance(self, c: PlanClass, quality: Floats) -> Balance:
        models = list(c.models)
        biases, scale = np.zeros(len(models)), 0.0
        if len(quality):
            expected = quality[:, [self._market.position[m] for m in models]]
            shares = np.array(list(c.models.values()))
            utilities = self._worths[c.label] * expected - self._prices(c)
            biases, scale = starting_biases(utilities, shares)
        start = dict(zip(models, biases.tolist(), strict=True))
        return Balance(c.models, start, scale)


def reason(found: PlanClass, chosen: str, offers: Mapping[str, Offer], *, quiet: bool) -> str:
    """What the choice gains for which price, against the next best."""
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

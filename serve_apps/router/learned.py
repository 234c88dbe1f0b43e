"""The learned router: for each request the model whose answer is worth most above its price.

    utility(m) = lambda_Q * q_m(request) - min over groups r of m: load_r(request) * pi_r(now)

lambda_Q and pi_r are the plan's; load_r is that of the request's own size, with the answer as long
as the artefact expects. In a quiet hour each class of the plan keeps the plan's shares (see
`router.balance`); as a group is asked for more than it can do, pi_r rises and requests whose
quality suffers least go elsewhere.
"""

from __future__ import annotations

import time
from bisect import bisect_right
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from placement.plan import AUTO, Plan, PlannedRouter
from serve_apps.router import remembered
from serve_apps.router.artefact import Artefact
from serve_apps.router.base import Decision, RouteRequest
from serve_apps.router.by_plan import FAR, ByPlan
from serve_apps.router.classes import SECONDS_PER_HOUR, PlanClass, PlanClasses
from serve_apps.router.difficulty import difficulty
from serve_apps.router.live import LivePrices
from serve_apps.router.offers import Market, Offer, limited
from serve_apps.router.policies.base import Ask, Floats, LearningPolicy, Policy
from serve_apps.router.policies.preference import ByPreference, WorthTable, calibrate
from serve_apps.router.policies.registry import policy_class
from serve_apps.router.policies.utility import Utility
from serve_apps.router.prompts import Prompt
from serve_apps.router.quick import Estimate, QuickEstimates
from serve_apps.router.table import RouteTable


class LearnedRouter:
    """`base.Router` over an artefact and a plan made with it.

    Requests that name a model, or hold no text, go by the plan's `RouteTable`, and so does any
    that cannot be estimated.
    """

    def __init__(
        self,
        plan: Plan,
        artefact: Artefact,
        *,
        clock: Callable[[], float] = time.monotonic,
        seed: int = 0,
    ) -> None:
        """
        Raises:
            InputError: the artefact is not for this pool, or holds no calibration prompts.
            ValueError: the plan has no router, or no route for requests that name no model.
        """
        if plan.router is None:
            raise ValueError("the plan was made without a learned router")
        self.settings: PlannedRouter = plan.router
        self.table = RouteTable(plan)
        """What stands in where nothing can be estimated: the plan's shares."""
        names = list(plan.router.models.values())
        self._quick = QuickEstimates(artefact.only(names))
        self._edges = list(plan.router.edges)
        self._slo = plan.slo
        self._classes = PlanClasses(plan)
        slos = [plan.slo, *(c.slo for c in self._classes.all)]
        self._market = Market(plan, plan.router.models, slos, clock)
        self._context_tokens = {g.name: g.profile.max_model_len for g in plan.groups}
        self._output_tokens = _mean_output_tokens(plan)
        reference = artefact.reference_estimates().only(names)
        bins = np.searchsorted(self._edges, difficulty(reference), side="right")
        self._by_plan = ByPlan(self._classes.all, self._market, reference.quality, bins)
        worth = _mean_worth(plan, self._classes)
        self._policy = _policy(plan.router.policy, self._market.models, worth, seed)
        self.learns = isinstance(self._policy, LearningPolicy)
        """Whether feedback changes what it does."""
        assert artefact.reference is not None
        sizes = artefact.reference.input_tokens, reference.output_tokens
        self._by_preference = ByPreference(
            Utility(worth), self._calibrated(reference.quality, *sizes)
        )

    weighs_load = True
    """It weighs what is to be avoided itself, and is asked once; see `base.WeighsLoad`."""

    @property
    def prices(self) -> LivePrices:
        """What load costs on each group, by the plan and now."""
        return self._market.prices

    @property
    def bounded(self) -> bool:
        """Whether estimates are sure to return soon; see `Artefact.bounded`."""
        return self._quick.bounded

    @property
    def failures(self) -> int:
        """Requests whose estimation failed."""
        return self._quick.failures

    def prepare(self, prompts: Sequence[Prompt]) -> None:
        """Estimate prompts together that are about to be routed one by one; never fails.

        May run in another thread than all the rest, see `only_prepared`.
        """
        self._quick.prepare(prompts)

    def only_prepared(self) -> None:
        """From now on `route` estimates nothing itself: who was not prepared goes by the table."""
        self._quick.only_prepared = True

    def route(self, request: RouteRequest, avoid: Collection[str] = ()) -> Decision:
        """See `base.Router.route`."""
        self._market.prices.tick()
        if request.model != AUTO:
            return self._by_table(request, avoid, "")
        if request.prompt is None:
            return self._by_table(request, avoid, "no text to judge by")
        estimate = self._quick(request.prompt)
        if isinstance(estimate, str):
            return self._by_table(request, avoid, estimate)
        found = self._class_of(request, estimate)
        offers = self._market.offers(request, estimate, found.slo, avoid)
        if not any(offer.groups for offer in offers.values()):
            return self._by_table(request, avoid, "no group left keeps the SLO at this size")
        pressed = bool(avoid) or not self.prices.calm
        calm = self._by_plan.calm_choice(found, offers) if pressed else None
        model, reason = self._choose(request, found, offers, avoid)
        decision = self._decided(request, found, model, offers, avoid, reason)
        return replace(decision, shed=True) if pressed and model != calm else decision

    def learn(self, ask: Ask, model: str, score: float) -> None:
        """Take in how good an answer was; only a policy that learns heeds it."""
        if isinstance(self._policy, LearningPolicy):
            self._policy.learn(ask, model, score, ask.price[ask.models.index(model)])

    def take_over(self, before: LearnedRouter) -> None:
        """Go on with the sessions, and with what was learned, of the router that this replaces."""
        self._market.sessions = before._market.sessions
        same = before.settings.sha256 == self.settings.sha256
        if same and before.settings.policy == self.settings.policy and self.learns:
            self._policy.restore(before._policy.arrays())  # type: ignore[attr-defined]

    def remember(self, path: Path) -> None:
        """Keep what feedback taught; nothing where the policy does not learn.

        Raises:
            OSError: it cannot be written there.
        """
        if self.learns:
            remembered.keep(path, self._owner, self._policy.arrays())  # type: ignore[attr-defined]

    def recall(self, path: Path) -> bool:
        """Go on from what `remember` kept, where it was of this policy and this artefact."""
        kept = remembered.recall(path, self._owner) if self.learns else None
        if kept is None:
            return False
        try:
            self._policy.restore(kept)  # type: ignore[attr-defined]
        except (KeyError, ValueError, IndexError):
            return False
        return True

    @property
    def _owner(self) -> str:
        return f"{self.settings.policy} {self.settings.sha256}"

    def _class_of(self, request: RouteRequest, estimate: Estimate) -> PlanClass:
        """By prompt tokens, predicted answer tokens (the pool's mean), and difficulty."""
        output = sum(estimate.output_tokens) / len(estimate.output_tokens)
        hard = bisect_right(self._edges, estimate.difficulty)
        return self._classes.find(request.input_tokens, limited(output, request), hard)

    def _choose(
        self,
        request: RouteRequest,
        found: PlanClass,
        offers: Mapping[str, Offer],
        avoid: Collection[str],
    ) -> tuple[str, str]:
        """The model, and why."""
        wish = request.preference
        if wish is not None and wish.kind != "default":
            ask = self._by_preference.with_preference(self._ask(offers), wish)
            choice = self._by_preference.choose(ask)
            return choice.model, f"asked for {wish.kind}: {choice.reason}"
        if self.learns:
            choice = self._policy.choose(replace(self._ask(offers), worth=found.worth))
            return choice.model, f"{self._policy.name}: {choice.reason}"
        return self._by_plan.choose(found, offers, avoid, request.importance)

    def _decided(
        self,
        request: RouteRequest,
        found: PlanClass,
        model: str,
        offers: Mapping[str, Offer],
        avoid: Collection[str],
        reason: str,
    ) -> Decision:
        offer, market = offers[model], self._market
        cached = market.sessions.cached(request.session, request.input_tokens)
        if cached is not None and cached[0] in offer.groups:
            group = min(offer.groups, key=offer.groups.__getitem__)
        else:
            group = self._by_plan.group(found, model, offer.groups)
        load = market.load_s(group, request.input_tokens, offer.output_tokens, found.slo)
        market.took(request, group, load, offer.output_tokens)
        if avoid:
            reason += f"; not {', '.join(sorted(avoid))}"
        return Decision(
            group,
            model,
            reason,
            self._others(request, group, avoid),
            quality=offer.quality,
            cost_usd=load * market.prices.planned[group] / SECONDS_PER_HOUR,
            ask=self._ask(offers) if self.learns else None,
            output_tokens=offer.output_tokens,
            slo=found.slo,
        )

    def _others(self, request: RouteRequest, group: str, avoid: Collection[str]) -> bool:
        """Whether yet another group has room for the request's context."""
        tokens = request.input_tokens + (request.max_output_tokens or 0)
        return any(
            name != group and name not in avoid and tokens <= room
            for name, room in self._context_tokens.items()
        )

    def _by_table(self, request: RouteRequest, avoid: Collection[str], why: str) -> Decision:
        decision = self.table.route(request, avoid)
        output = self._output_tokens.get(request.model, self._output_tokens[AUTO])
        load = self._market.load_s(decision.group, request.input_tokens, output, self._slo)
        self._market.took(request, decision.group, load, output)
        return replace(decision, reason=f"{why}; {decision.reason}") if why else decision

    def _ask(self, offers: Mapping[str, Offer]) -> Ask:
        return Ask(
            models=tuple(offers),
            quality=tuple(o.quality for o in offers.values()),
            price=tuple(o.price if o.groups else FAR for o in offers.values()),
            feasible=tuple(bool(o.groups) for o in offers.values()),
        )

    def _calibrated(self, quality: Floats, inputs: Floats, outputs: Floats) -> WorthTable:
        """Which worth brings which share of the best model's quality, on the reference prompts."""
        position = self._market.position
        at = list(position.values())
        price = np.array(
            [
                [self._market.planned_price(m, i, row[k], self._slo) for m, k in position.items()]
                for i, row in zip(inputs.tolist(), outputs.tolist(), strict=True)
            ]
        )
        price = np.where(np.isfinite(price), price, FAR)
        return calibrate(quality[:, at], price, quality[:, at], price)


def _policy(name: str, models: Sequence[str], worth: float, seed: int) -> Policy:
    if name == "utility":
        return Utility(worth)
    more = {"rng": np.random.default_rng(seed)} if name == "thompson" else {}
    made: Policy = policy_class(name)(models, worth=worth, **more)
    return made


def _mean_worth(plan: Plan, classes: PlanClasses) -> float:
    """lambda_Q of the stream in dollars per request and unit of quality."""
    told = plan.prices.quality.get(AUTO) if plan.prices else None
    return told / SECONDS_PER_HOUR if told is not None else max(c.worth for c in classes.all)


def _mean_output_tokens(plan: Plan) -> dict[str, float]:
    """The mean planned answer per stream; under ``auto`` that of all requests without its own."""

    def mean(streams: Collection[str]) -> float:
        routes = [r for r in plan.routes if r.stream in streams]
        rate = sum(r.rate_rps for r in routes)
        return sum(r.rate_rps * r.bucket.output_tokens for r in routes) / rate

    streams = {r.stream for r in plan.routes}
    return {AUTO: mean(streams)} | {s: mean({s}) for s in streams}

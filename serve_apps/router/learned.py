"""The learned router: for each request the model whose answer is worth most above its price.

    utility(m) = lambda_Q * q_m(request) - min over groups r of m: load_r(request) * pi_r(now)

lambda_Q and pi_r are the plan's; load_r is that of the request's own size, with the answer as long
as the artefact expects. In a quiet hour each class of the plan keeps the plan's shares (see
`router.balance`); as a group is asked for more than it can do, pi_r rises and requests whose
quality suffers least go elsewhere.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from placement.plan import AUTO, Plan, PlannedRouter
from serve_apps.router import remembered
from serve_apps.router.artefact import Artefact
from serve_apps.router.base import Decision, RouteRequest
from serve_apps.router.by_plan import FAR
from serve_apps.router.classes import SECONDS_PER_HOUR, PlanClass, PlanClasses
from serve_apps.router.deciding import Chooser, Deciding, Typical
from serve_apps.router.difficulty import difficulty
from serve_apps.router.live import LivePrices
from serve_apps.router.load_policies import LoadPolicy
from serve_apps.router.offers import Offer
from serve_apps.router.planned_load import planned_policy
from serve_apps.router.policies.base import Ask, Floats, LearningPolicy, Policy
from serve_apps.router.policies.preference import ByPreference, WorthTable, calibrate
from serve_apps.router.policies.registry import policy_class
from serve_apps.router.policies.utility import Utility
from serve_apps.router.prompts import Prompt
from serve_apps.router.quick import QuickEstimates


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
        load_policy: LoadPolicy | None = None,
    ) -> None:
        """``load_policy`` chooses where the request has no wish and the router is no bandit; None:
        the one that the plan brings, or prices.

        Raises:
            InputError: the artefact is not for this pool, or holds no calibration prompts.
            ValueError: the plan has no router, or no route for requests that name no model.
        """
        if plan.router is None:
            raise ValueError("the plan was made without a learned router")
        self.settings: PlannedRouter = plan.router
        names = list(plan.router.models.values())
        self._quick = QuickEstimates(artefact.only(names))
        reference = artefact.reference_estimates().only(names)
        bins = np.searchsorted(plan.router.edges, difficulty(reference), side="right")
        self._core = Deciding(
            plan,
            list(plan.router.models),
            Typical(reference.quality, bins),
            clock,
            load_policy or planned_policy(plan, clock),
        )
        self.table = self._core.table
        """What stands in where nothing can be estimated: the plan's shares."""
        self._market = self._core.market
        self._slo = plan.slo
        worth = _mean_worth(plan, self._core.classes)
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
        core = self._core
        core.prices.tick()
        if request.model != AUTO:
            return core.by_table(request, avoid, "")
        if request.prompt is None:
            return core.by_table(request, avoid, "no text to judge by")
        estimate = self._quick(request.prompt)
        if isinstance(estimate, str):
            return replace(core.by_table(request, avoid, estimate), fallback=True)
        asks: list[Ask] = []
        decision = core.decide(request, estimate, avoid, self._chooser(request, asks))
        return replace(decision, ask=asks[0]) if self.learns and asks else decision

    def learn(self, ask: Ask, model: str, score: float) -> None:
        """Take in how good an answer was; only a policy that learns heeds it."""
        if isinstance(self._policy, LearningPolicy):
            self._policy.learn(ask, model, score, ask.price[ask.models.index(model)])

    def take_over(self, before: LearnedRouter) -> None:
        """Go on with the sessions, and with what was learned, of the router that this replaces."""
        self._core.take_over(before._core)
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

    def _chooser(self, request: RouteRequest, asks: list[Ask]) -> Chooser | None:
        """By the request's wish, or by what feedback taught; ``asks`` gets what was asked."""
        wish = request.preference
        wishes = wish is not None and wish.kind != "default"
        if not wishes and not self.learns:
            return None

        def choose(found: PlanClass, offers: Mapping[str, Offer]) -> tuple[str, str]:
            asks.append(self._ask(offers))
            if wishes:
                assert wish is not None
                choice = self._by_preference.choose(
                    self._by_preference.with_preference(asks[0], wish)
                )
                return choice.model, f"asked for {wish.kind}: {choice.reason}"
            choice = self._policy.choose(replace(asks[0], worth=found.worth))
            return choice.model, f"{self._policy.name}: {choice.reason}"

        return choose

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

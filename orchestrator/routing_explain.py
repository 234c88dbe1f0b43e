"""Why a router answers a prompt with one model: estimates, prices, the words that tipped it."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np

from orchestrator.routing_costs import Costs, prompt_tokens
from serve_apps.router.artefact import Artefact
from serve_apps.router.estimates import Arrays, Floats
from serve_apps.router.estimators.calibrated import CalibratedEstimator
from serve_apps.router.estimators.low_rank import squared_distances
from serve_apps.router.policies.base import Ask
from serve_apps.router.policies.utility import Utility
from serve_apps.router.prompts import Prompt

PIECES = 24
"""A prompt is left out piece by piece, in at most this many pieces."""


@dataclass(frozen=True)
class Line:
    """One model; ``price`` and ``utility`` are None without costs or without a setting."""

    model: str
    quality: float
    quality_sd: float
    output_tokens: float
    price: float | None
    utility: float | None
    chosen: bool


@dataclass(frozen=True)
class Piece:
    """Words of the prompt, and how much of the gap goes when they are left out."""

    text: str
    gap: float


@dataclass(frozen=True)
class Familiarity:
    """How far the nearest training prompt kept by the artefact lies.

    ``distance`` is squared, over the typical one between two of them; ``share``: how many of
    them lie nearer than that to their own nearest.
    """

    distance: float
    share: float

    @property
    def unusual(self) -> bool:
        """Farther out than 99 in 100 training prompts."""
        return self.share > 0.99


@dataclass(frozen=True)
class Explanation:
    """Everything about one decision; ``gap`` is quality of ``strong`` minus that of ``weak``."""

    lines: tuple[Line, ...]
    choice: str
    reason: str
    weak: str
    strong: str
    gap: float
    pieces: tuple[Piece, ...]
    familiarity: Familiarity | None

    def as_data(self) -> dict[str, object]:
        """For ``-o json``."""
        return asdict(self)


def explain(artefact: Artefact, text: str, costs: Costs | None, worth: float | None) -> Explanation:
    """Explain the policy ``utility`` at this worth; None: the best expected quality."""
    prompt = Prompt(text)
    pieces = _pieces(text)
    without = [Prompt("".join(pieces[:i] + pieces[i + 1 :])) for i in range(len(pieces))]
    told = artefact.estimate([prompt, *without])
    quality, sd = told.quality[0], told.quality_sd[0]
    price = None
    if costs is not None:
        price = costs.price(told.models, prompt_tokens([prompt]), told.output_tokens[:1])[0]
    prices = np.zeros(len(quality)) if price is None else price
    ask = Ask(told.models, quality.tolist(), prices.tolist(), sd.tolist())
    choice = Utility(math.inf if worth is None else worth).choose(ask)
    chosen = choice.calls[0]
    weak, strong = _ends(quality, prices, price is not None)
    gaps = told.quality[:, strong] - told.quality[:, weak]
    moved = [Piece(p.strip(), float(gaps[0] - g)) for p, g in zip(pieces, gaps[1:], strict=True)]
    finite = worth is not None and math.isfinite(worth)
    return Explanation(
        lines=tuple(
            Line(
                m,
                float(quality[i]),
                float(sd[i]),
                float(told.output_tokens[0, i]),
                None if price is None else float(price[i]),
                float((worth or 0.0) * quality[i] - prices[i]) if finite else None,
                m == chosen,
            )
            for i, m in enumerate(told.models)
        ),
        choice=chosen,
        reason=choice.reason,
        weak=told.models[weak],
        strong=told.models[strong],
        gap=float(gaps[0]),
        pieces=tuple(sorted(moved, key=lambda p: -abs(p.gap))),
        familiarity=familiarity(artefact, prompt),
    )


def _ends(quality: Floats, price: Floats, priced: bool) -> tuple[int, int]:
    """The cheapest model and the one expected to be best; without prices the worst and best."""
    weak = int(price.argmin() if priced else quality.argmin())
    strong = int(quality.argmax())
    if weak == strong:
        others = np.where(np.arange(quality.size) == weak, -np.inf, quality)
        strong = int(others.argmax())
    return weak, strong


def _pieces(text: str) -> list[str]:
    """Runs of words of about equal number, that joined give the text again."""
    words = re.findall(r"\s*\S+", text)
    if len(words) < 2:
        return []
    size = -(-len(words) // PIECES)
    return ["".join(words[i : i + size]) for i in range(0, len(words), size)]


def familiarity(artefact: Artefact, prompt: Prompt) -> Familiarity | None:
    """Where the estimator keeps training prompts as landmarks; None where it keeps none."""
    if not isinstance(artefact.estimator, CalibratedEstimator):
        return None
    shared, _ = artefact.estimator.parts()
    if "typical" not in shared or len(shared.get("landmarks", ())) < 2:
        return None
    landmarks = shared["landmarks"]
    among = _apart(shared, landmarks)
    np.fill_diagonal(among, np.inf)
    nearest = float(_apart(shared, artefact.features.transform([prompt])).min())
    return Familiarity(nearest, float((among.min(axis=1) < nearest).mean()))


def _apart(shared: Arrays, x: Floats) -> Floats:
    """Squared distances to the landmarks over the typical one, the mean over blocks of columns."""
    landmarks, typical = shared["landmarks"], np.atleast_1d(shared["typical"])
    columns = shared.get("columns", np.zeros(landmarks.shape[1], dtype=np.int64))
    apart = [
        squared_distances(x[:, columns == block], landmarks[:, columns == block]) / one
        for block, one in enumerate(typical)
    ]
    return np.asarray(np.mean(apart, axis=0), dtype=np.float64)


def worth_and_costs(
    artefact: Artefact, costs: Costs | None, plan_worth: Mapping[str, float] | None
) -> tuple[float | None, Costs | None]:
    """The exchange rate to explain with, and the prices it belongs to.

    A plan's wins over the artefact's setting; ``costs`` is given where the user named prices.
    """
    setting = artefact.description.setting
    if costs is not None and plan_worth and plan_worth.get("auto"):
        return plan_worth["auto"] / 3600, costs
    if setting is None:
        return None, costs
    if costs is None or costs.unit == setting.unit:
        stored = Costs(setting.unit, setting.rates, f"as calibrated for {setting.target}")
        return setting.worth, costs or stored
    return None, costs


def top_pieces(pieces: Sequence[Piece], count: int = 5) -> list[Piece]:
    """Those that move the gap most, and by at least a thousandth."""
    return [p for p in pieces if abs(p.gap) >= 1e-3][:count]

"""What an artefact remembers beside what it learned: unseen prompts, and a calibrated setting."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from serve_apps.router.outcomes import Outcomes
from serve_apps.router.policies.preference import WorthTable

Rows = NDArray[np.int64]
Rates = tuple[float, float, float]
"""Cost per input token, per output token, and per request."""

CALIBRATION_SHARE = 0.5
"""Prompts kept for calibrating, as a share of those kept for the test."""


@dataclass(frozen=True)
class Parts:
    """Positions of prompts: learned from, calibrated on, and judged on."""

    train: Rows
    calibration: Rows
    test: Rows


def _unseen(rows: Rows, texts: Sequence[str], seen: Collection[str]) -> Rows:
    return np.array([i for i in rows if texts[i] not in seen], dtype=np.int64)


@dataclass(frozen=True)
class HeldOut:
    """A division of prompts by hash, the same wherever a prompt turns up.

    ``by``: "prompt", or "subject" to keep whole subjects apart; ``share`` of them is for the
    test, and half as many again are for calibrating.
    """

    by: str = "prompt"
    share: float = 0.2
    seed: int = 0

    def parts(self, outcomes: Outcomes) -> Parts:
        """Where each prompt belongs.

        A prompt that recurs under another subject stays on the side that is learned from; its
        other copies are in no part.
        """
        texts = [p.text for p in outcomes.prompts]
        keys = outcomes.subject if self.by == "subject" else texts
        at = np.array([self._place(key) for key in keys])
        edge = self.share * (1 + CALIBRATION_SHARE)
        train = np.flatnonzero(at >= edge)
        seen = {texts[i] for i in train}
        calibration = _unseen(np.flatnonzero((at >= self.share) & (at < edge)), texts, seen)
        seen |= {texts[i] for i in calibration}
        return Parts(train, calibration, _unseen(np.flatnonzero(at < self.share), texts, seen))

    def tests(self, prompt: str, subject: str) -> bool:
        """Whether a prompt is kept for the test."""
        return self._place(subject if self.by == "subject" else prompt) < self.share

    def _place(self, key: str) -> float:
        """Evenly spread over [0, 1)."""
        text = f"{self.seed}:{key}".encode("utf-8", "surrogatepass")
        return int.from_bytes(hashlib.sha256(text).digest()[:7], "big") / 2**56


@dataclass(frozen=True)
class Setting:
    """A calibrated setting of the policy ``utility``: argmax of ``worth`` * quality - price.

    ``worth`` is what one unit of quality is worth in ``unit``, infinite for the best model at any
    price; ``rates`` are the prices it was found at, per model: (per input token, per output token,
    per request). ``target`` is the user's own words. Quality, cost and mix are what it came to on
    ``prompts`` that training had not seen: ``cost`` the mean per request. ``ladder`` holds rising
    finite worths with the share of the best single's quality and the mean cost found at each.
    """

    worth: float
    unit: str
    rates: Mapping[str, Rates]
    target: str
    quality: float
    cost: float
    prompts: int
    mix: Mapping[str, float] = field(default_factory=dict)
    ladder: tuple[tuple[float, float, float], ...] = ()

    def worth_table(self) -> WorthTable:
        """What requests with a preference of their own are served by (`policies.preference`)."""
        worth, share, cost = np.array(self.ladder, dtype=float).reshape(-1, 3).T
        return WorthTable(worth, share, cost)

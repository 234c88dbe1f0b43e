"""A learned router whose estimates a test writes down itself, and plans made with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np

from placement.plan import PlannedRouter
from profiler.files import sha256_of
from serve_apps.router.artefact import Artefact, Description
from serve_apps.router.estimates import Arrays, Estimates
from serve_apps.router.prompts import Prompt
from serve_apps.router.reference import Reference


class WrittenFeatures:
    """A prompt's text is its own vector: numbers between spaces; the rest is ignored."""

    name = "written"

    def fit(self, prompts: Sequence[Prompt]) -> Self:
        return self

    def transform(self, prompts: Sequence[Prompt]) -> Any:
        return np.array([[float(x) for x in p.text.split()] for p in prompts])

    def arrays(self) -> Arrays:
        return {}

    @classmethod
    def from_arrays(cls, arrays: Arrays) -> Self:
        return cls()


class WrittenEstimator:
    """Reads expected quality per model and then the answer's length off the vector."""

    name = "written"

    def __init__(self, models: Sequence[str]) -> None:
        self.models = tuple(models)

    def fit(self, features: Any, outcomes: Any, rng: Any) -> Self:
        return self

    def estimate(self, features: Any) -> Estimates:
        quality = np.asarray(features)[:, :-1]
        length = np.tile(np.asarray(features)[:, -1:], (1, len(self.models)))
        return Estimates(self.models, quality, np.full_like(quality, 0.02), length)

    def arrays(self) -> Arrays:
        return {"models": np.array(self.models)}

    @classmethod
    def from_arrays(cls, arrays: Arrays) -> Self:
        return cls([str(m) for m in arrays["models"]])


def prompt(*quality: float, output_tokens: float = 256) -> Prompt:
    """A prompt of this expected quality per model."""
    return Prompt(text(*quality, output_tokens=output_tokens))


def text(*quality: float, output_tokens: float = 256) -> str:
    return " ".join(repr(float(x)) for x in (*quality, output_tokens))


def artefact(
    models: Sequence[str], quality: Any, *, output_tokens: float = 256, input_tokens: float = 1000
) -> Artefact:
    """``quality`` [prompts, models] of the prompts that it was calibrated on."""
    rows = np.asarray(quality, dtype=float)
    features = np.column_stack([rows, np.full(len(rows), output_tokens)])
    return Artefact(
        Description(tuple(models), "written", "written", "0" * 64, len(rows), 0, ece=0.01),
        WrittenFeatures(),
        WrittenEstimator(models),
        Reference(features, rows, np.full(len(rows), input_tokens)),
    )


def planned_router(
    models: Mapping[str, str] | Sequence[str], edges: Sequence[float] = (), **fields: Any
) -> PlannedRouter:
    named = models if isinstance(models, Mapping) else {m: m for m in models}
    defaults: dict[str, Any] = {"artefact": "router.npz", "sha256": "0" * 64}
    return PlannedRouter(models=dict(named), edges=tuple(edges), **(defaults | fields))


def easy_and_hard(models: Sequence[str] = ("m1", "m2"), prompts: int = 240) -> Any:
    """Outcomes that the default features can learn: the first model fails on long sums."""
    from serve_apps.router.outcomes import Outcomes

    asked = tuple(Prompt(easy(i) if i % 2 else hard(i)) for i in range(prompts))
    score = np.array([[1.0 if i % 2 else 0.0, 1.0] for i in range(prompts)])
    unknown = np.full(score.shape, np.nan)
    return Outcomes(
        prompts=asked,
        dataset=("made",) * prompts,
        subject=("made",) * prompts,
        models=tuple(models),
        score=score,
        output_tokens=np.full(score.shape, 20.0),
        input_tokens=unknown,
        usd=unknown,
    )


def easy(i: int = 0) -> str:
    return f"Hello friend number {i}, how are you today?"


def hard(i: int = 0) -> str:
    return f"Prove that the integral of x^{i % 7 + 2} dx equals 12{i} * 7{i} + 93{i} / 4{i} = ?"


def trained(path: Path, models: Sequence[str] = ("m1", "m2")) -> tuple[Artefact, PlannedRouter]:
    """A real artefact, small, saved at ``path``, and what a plan says of it."""
    from serve_apps.router.difficulty import bins_of
    from serve_apps.router.training import train

    made = train(easy_and_hard(models), estimator="logistic")
    made.save(path)
    bins = bins_of(made.reference_estimates(), 2)
    router = planned_router(models, bins.edges.tolist(), artefact=path.name, sha256=sha256_of(path))
    return made, router

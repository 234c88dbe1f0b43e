"""A new model joins an artefact: probes chosen, asked or looked up, and how well it turned out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from profiler.errors import InputError, UnknownNameError
from profiler.questions import Question
from serve_apps.router.artefact import Artefact
from serve_apps.router.evaluation.reliability import brier, ece
from serve_apps.router.onboarding import choose_probes, onboard
from serve_apps.router.outcomes import Floats, Outcomes, Rows
from serve_apps.router.prompts import Prompt

LEAST_PROBES = 5
LEAST_JUDGES = 50
FOLDS = 5


@dataclass(frozen=True)
class Joined:
    """The wider artefact, the probes used, and its error on prompts of the new model it never saw.

    ``judged_on`` says which; Brier of always the probes' mean score beside it.
    """

    artefact: Artefact
    probes: Rows
    mean_score: float
    judged_on: str
    ece: float
    brier: float
    brier_of_mean: float


def candidates(artefact: Artefact, model: str, outcomes: Outcomes) -> Outcomes:
    """The prompts that the new model was scored on, less those of the artefact's test.

    Raises:
        InputError: the model is known already, or has no score here.
    """
    if model in artefact.models:
        raise InputError(f"{model!r} is in the artefact already; train it again to replace it")
    if model not in outcomes.models:
        raise UnknownNameError("model", model, outcomes.models, mend="(in --outcomes)")
    found = outcomes.rows(np.isfinite(outcomes.score[:, outcomes.models.index(model)]))
    split = artefact.description.split
    if split is not None and split.share:
        parts = split.parts(found)
        found = found.rows(np.sort(np.concatenate([parts.train, parts.calibration])))
    if len(found.prompts) < LEAST_PROBES:
        raise InputError(
            f"found {len(found.prompts)} prompts with a score of {model}, expected at least "
            f"{LEAST_PROBES}"
        )
    return found


def known_scores(artefact: Artefact, outcomes: Outcomes) -> Floats | None:
    """Scores of the artefact's models on these prompts; None where the table has none of them."""
    found = np.full((len(outcomes.prompts), len(artefact.models)), np.nan)
    for i, model in enumerate(artefact.models):
        if model in outcomes.models:
            found[:, i] = outcomes.score[:, outcomes.models.index(model)]
    return found if np.isfinite(found).any() else None


def join(artefact: Artefact, model: str, outcomes: Outcomes, probes: int, seed: int = 0) -> Joined:
    """Choose probes among these prompts and let the model join from its scores on them.

    Raises:
        InputError: as `candidates` and `onboard`.
    """
    pool = candidates(artefact, model, outcomes)
    if probes < LEAST_PROBES:
        raise InputError(f"--probes {probes}: expected at least {LEAST_PROBES}")
    count = min(probes, len(pool.prompts))
    told = known_scores(artefact, pool)
    chosen = choose_probes(artefact, pool.prompts, count, told)
    grown = _onboarded(artefact, model, pool, told, chosen)
    # Its prices were never part of the setting: that has to be found again.
    wider = replace(grown, description=replace(grown.description, setting=None))
    rest = np.setdiff1d(np.arange(len(pool.prompts)), chosen)
    y = pool.score[:, pool.models.index(model)]
    if rest.size >= LEAST_JUDGES:
        expected, judged, words = _expected(wider, pool, rest), rest, f"{rest.size} other prompts"
    else:
        expected, judged = _cross_validated(artefact, model, pool, told, chosen, seed)
        words = f"the probes themselves, {FOLDS}-fold"
    mean = np.full(judged.size, y[chosen].mean())
    return Joined(
        artefact=wider,
        probes=chosen,
        mean_score=float(y[chosen].mean()),
        judged_on=words,
        ece=ece(expected, y[judged]),
        brier=brier(expected, y[judged]),
        brier_of_mean=brier(mean, y[judged]),
    )


def _onboarded(
    artefact: Artefact, model: str, pool: Outcomes, told: Floats | None, rows: Rows
) -> Artefact:
    part, m = pool.rows(rows), pool.models.index(model)
    return onboard(
        artefact,
        model,
        part.prompts,
        part.score[:, m],
        scores=None if told is None else told[rows],
        output_tokens=part.output_tokens[:, m],
    )


def _expected(artefact: Artefact, pool: Outcomes, rows: Rows) -> Floats:
    return artefact.estimate(pool.rows(rows).prompts).quality[:, -1]


def _cross_validated(
    artefact: Artefact, model: str, pool: Outcomes, told: Floats | None, chosen: Rows, seed: int
) -> tuple[Floats, Rows]:
    order = np.random.default_rng(seed).permutation(chosen)
    folds = [part for part in np.array_split(order, min(FOLDS, order.size)) if part.size]
    found = []
    for held in folds:
        seen = np.setdiff1d(order, held)
        found.append(_expected(_onboarded(artefact, model, pool, told, seen), pool, held))
    return np.concatenate(found), np.concatenate(folds)


def probe_questions(artefact: Artefact, questions: Sequence[Question], count: int) -> list[int]:
    """Positions of the most telling questions, in the set's order, less the artefact's test.

    Raises:
        InputError: no question left, or an estimator that models cannot join.
    """
    split = artefact.description.split
    left = [
        i
        for i, q in enumerate(questions)
        if split is None or not split.tests(q.text, q.subject or q.dataset)
    ]
    if not left:
        raise InputError("every question is one that the artefact keeps for its test; give others")
    prompts = [Prompt(questions[i].text) for i in left]
    chosen = choose_probes(artefact, prompts, min(count, len(left)))
    return sorted(left[i] for i in chosen.tolist())

"""Whether the size and shape of what is asked tell how much a larger model adds.

    python -m benchmarks.router_asked [--data DIR] [--splits N] [--first-seed SEED]

Llama 3.1 on ZeroEval. Two ideas beside the default, alone and together, each by an exact kernel
ridge on the default's factors, penalties chosen inside the training part:

* *asked*: numbers and their sizes, depth and length of brackets, quoted text, calls, operators and
  nesting of code, formulas; read off any prompt, naming no data set.
* *by family*: a mean per guessed subject, and within it features by their spread there, so that a
  subject has slopes of its own, drawn to its mean.

"Chosen" takes, in each training part, what errs least there. Each seed divides the prompts in two
halves, each of which is the test once. A Markdown table; the last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from math import log1p
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks import router_tasks as tasks
from benchmarks.router_tasks import Floats
from benchmarks.router_tried import PAIRS, Values, gap_of, router, show
from serve_apps.router.estimators import kinds
from serve_apps.router.estimators.low_rank import FORM, factorise, squared_distances
from serve_apps.router.evaluation import metrics
from serve_apps.router.features.hand import NAMES
from serve_apps.router.features.text import TextFeatures
from serve_apps.router.outcomes import Outcomes, read_outcomes

FIRST_SEED = 15000
PENALTIES = np.geomspace(1.0, 300.0, 9)
INNER_FOLDS = 3
FARTHEST = 4.0
"""Spreads from the mean that a feature may be."""
COUNTED = (
    r"[.?!]\s", r",", r"\$", r"%", r"\^|\*\*", r"\\[a-zA-Z]+", r"\\frac|\\sqrt",
    r"\b[A-Z][a-z]+", r"(?m)^ +\S", r"[A-Za-z_]\w*\s*\(", r"\.[a-z_]+\(", r"\w\([^()\n]*\w\(",
    r"\w\s=\s", r"==|!=|[<>]=?", r"[-+*/]=", r"\w\s?[-+*/%]{1,2}\s?\w", r"\[[^\]\n]*:[^\]\n]*\]",
    r"\\[nt]",
)  # fmt: skip
"""What is counted: ends of sentences, commas, sums of money, shares; powers, commands of formulas,
fractions; names; indented lines, calls, methods, calls in calls, assignments, comparisons,
assignments with an operator, operations, slices, escapes."""
DISTINCT = (r"\d[\d,]*\.?\d*", r"\b[A-Z][a-z]+", r"(?<![A-Za-z\\])[a-zA-Z](?![A-Za-z])",
            r"\.[a-z_]+\(")  # fmt: skip
"""Of which different ones are counted: numbers, names, variables, methods."""
Kernel = tuple[Floats, Floats]
"""Of training prompts with each other, and of test prompts with them."""


def asked(text: str) -> list[float]:
    """The size and shape of what a prompt asks."""
    found = [log1p(len(re.findall(pattern, text))) for pattern in COUNTED]
    found += [log1p(len(set(re.findall(pattern, text)))) for pattern in DISTINCT]
    numbers = [float(n.replace(",", "")) for n in re.findall(DISTINCT[0], text)]
    sizes = [log1p(n) for n in numbers] or [0.0]
    found += [log1p(len(numbers)), max(sizes), sum(sizes) / len(sizes)]
    found += [sum(n <= 12 for n in numbers) / max(len(numbers), 1)]
    quoted = [a or b for a, b in re.findall(r"'([^'\n]*)'|\"([^\"\n]*)\"", text)]
    longest = max(quoted, key=len, default="")
    found += [log1p(len(quoted)), log1p(len(longest)), log1p(len(set(longest)))]
    return found + _brackets(text)


def _brackets(text: str) -> list[float]:
    """How deep they go, how many, the longest, and commas inside."""
    opened: list[int] = []
    deepest = count = longest = commas = 0
    for i, byte in enumerate(text):
        if byte in "([{":
            opened.append(i)
            count += 1
            deepest = max(deepest, len(opened))
        elif byte in ")]}" and opened:
            longest = max(longest, i - opened.pop())
        commas += byte == "," and bool(opened)
    return [float(deepest), log1p(count), log1p(longest), log1p(commas)]


@dataclass(frozen=True)
class Parts:
    """Features of training and test prompts, and each one's chances of being of each family."""

    seen: Floats
    new: Floats
    seen_family: Floats
    new_family: Floats

    def shared(self) -> Kernel:
        """A Gaussian kernel, the same for all families."""
        return _gaussian(self.seen, self.new)

    def by_family(self) -> Kernel:
        """A mean per family, and a Gaussian kernel within it."""
        near = _gaussian(*self._within())
        a, b = self.seen_family @ self.seen_family.T, self.new_family @ self.seen_family.T
        return a + a * near[0], b + b * near[1]

    def _within(self) -> tuple[Floats, Floats]:
        """Each prompt's features less its family's means, over their spreads there."""
        share = self.seen_family / self.seen_family.sum(axis=0)
        mean = share.T @ self.seen
        variance = share.T @ self.seen**2 - mean**2
        scale = np.where(variance > 1e-9, 1 / np.sqrt(np.maximum(variance, 1e-9)), 0.0)

        def of(x: Floats, family: Floats) -> Floats:
            scaled = (x - family @ mean) * (family @ scale)
            return np.asarray(np.clip(scaled, -FARTHEST, FARTHEST))

        return of(self.seen, self.seen_family), of(self.new, self.new_family)


def _gaussian(seen: Floats, new: Floats) -> Kernel:
    apart = squared_distances(seen, seen)
    typical = float(np.median(apart[np.triu_indices(len(seen), 1)]))
    return np.exp(-apart / typical), np.exp(-squared_distances(new, seen) / typical)


def ridge(
    kernel: Kernel, y: Floats, worth: Floats, fold: NDArray[np.int64]
) -> tuple[Floats, float]:
    """What is expected of the test prompts, and the error on inner folds, targets by ``worth``."""
    near = kernel[0]
    guess = np.stack([np.zeros_like(y)] * PENALTIES.size)
    for k in range(INNER_FOLDS):
        a, b = fold != k, fold == k
        guess[:, b] = _solved(near[np.ix_(a, a)], near[np.ix_(b, a)], y[a])
    errors = ((y - guess) ** 2).mean(axis=1)
    least = errors.argmin(axis=0)
    at = np.arange(y.shape[1])
    found = _solved(near, kernel[1], y)[least, :, at].T
    return found, float(errors[least, at] @ worth)


def _solved(near: Floats, cross: Floats, y: Floats) -> Floats:
    """Kernel ridge with a constant, ``[penalties, prompts, targets]``."""
    middle, row = y.mean(axis=0), near.mean(axis=0)
    values, vectors = np.linalg.eigh(near - row - row[:, None] + near.mean())
    target = vectors.T @ (y - middle)
    basis = (cross - cross.mean(axis=1, keepdims=True) - row + near.mean()) @ vectors
    weight = 1 / (np.maximum(values, 0) + PENALTIES[:, None])
    return np.asarray(middle + np.einsum("ni,pi,it->pnt", basis, weight, target, optimize=True))


def factors(train_on: Outcomes, test: Outcomes, seed: int) -> tuple[dict[str, Floats], Floats]:
    """The test prompts' factors by each way of guessing them, and the models' loadings."""
    extractor = TextFeatures().fit(train_on.prompts)
    x, new = (extractor.transform(part.prompts) for part in (train_on, test))
    raw = [np.array([asked(p.text) for p in part.prompts]) for part in (train_on, test)]
    middle, spread = raw[0].mean(axis=0), np.maximum(raw[0].std(axis=0), 1e-9)
    more = [np.clip((r - middle) / spread, -FARTHEST, FARTHEST) for r in raw]
    _, y, loadings = factorise(train_on.score, 3, np.random.default_rng(0))
    _, labels = np.unique(train_on.subject, return_inverse=True)
    told = kinds.fit(x, labels, y)
    family = [kinds.chances(part @ told["weights"] + told["bias"]) for part in (x, new)]

    def parts(columns: Iterable[int], *, ask: bool) -> Parts:
        at = list(columns)
        made = [
            np.hstack([p[:, at], m] if ask else [p[:, at]])
            for p, m in zip((x, new), more, strict=True)
        ]
        return Parts(made[0], made[1], family[0], family[1])

    hand, words = range(len(NAMES)), range(len(NAMES), x.shape[1])
    form, alike = parts(FORM, ask=False), parts(words, ask=False).shared()
    formed = parts(FORM, ask=True)
    tried = {
        "form and words": _sum(form.shared(), alike),
        "form with asked, and words": _sum(formed.shared(), alike),
        "form, by family": form.by_family(),
        "form with asked, by family": formed.by_family(),
        "hand, by family": parts(hand, ask=False).by_family(),
        "hand with asked, by family": parts(hand, ask=True).by_family(),
    }
    fold = np.random.default_rng(seed).permutation(len(x)) % INNER_FOLDS
    worth = ((loadings - loadings.mean(axis=0)) ** 2).sum(axis=0)
    guesses = {name: ridge(kernel, y, worth, fold) for name, kernel in tried.items()}
    best = min(guesses.values(), key=lambda guess: guess[1])
    found = {name: guess for name, (guess, _) in guesses.items()}
    means = np.stack([y[labels == k].mean(axis=0) for k in range(labels.max() + 1)])
    return found | {"chosen": best[0], "family alone": family[1] @ means}, loadings


def _sum(a: Kernel, b: Kernel) -> Kernel:
    return a[0] + b[0], a[1] + b[1]


def table(outcomes: Outcomes, seeds: range) -> Values:
    """APGR of both pairs, and how much it is above the first row's."""
    found: Values = defaultdict(lambda: defaultdict(list))
    for seed in seeds:
        half = tasks.split(outcomes, 0.5, seed)
        for train_on, test in (half, half[::-1]):
            guesses, loadings = factors(train_on, test, seed)
            default = router("text", "low_rank", "")(train_on, test)
            for pair, (weak, strong) in PAIRS.items():
                lead = loadings[outcomes.models.index(strong)]
                lead = lead - loadings[outcomes.models.index(weak)]
                scores = test.only((weak, strong)).score.T
                rankings = {"default": gap_of(default, weak, strong)}
                rankings |= {name: guess @ lead for name, guess in guesses.items()}
                first = metrics.apgr(rankings["default"], *scores)
                for name, ranking in rankings.items():
                    value = metrics.apgr(ranking, *scores)
                    found[name][pair].append(value)
                    found[name][f"{pair}, above the default"].append(value - first)
    return found


def main() -> None:
    """Print the table, then it as JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, default=tasks.DATA)
    parser.add_argument("--splits", type=int, default=5)
    parser.add_argument("--first-seed", type=int, default=FIRST_SEED)
    given = parser.parse_args()
    seeds = range(given.first_seed, given.first_seed + given.splits)
    outcomes = read_outcomes(given.data / "zeroeval.parquet")
    print(json.dumps(show("ZeroEval, half labelled, Llama 3.1", table(outcomes, seeds))))


if __name__ == "__main__":
    main()

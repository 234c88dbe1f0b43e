"""What was tried for the router's estimates, and how far any router could get on these data.

    python -m benchmarks.router_tried [--data DIR] [--splits N] [--cache DIR] [--only TEXT]

Prints Markdown tables; the last line is JSON. APGR, mean ± standard deviation over splits that
no choice was made on. Each router chooses its own penalties inside its training part.

Ceilings look at what no router has: which subject a test prompt is of; what all *other* models of
the table made of the very prompt; what the same model answered when it was served elsewhere. A
router that reads prompts cannot pass the second by much: what other models find hard is nearly all
that there is to know of a prompt's difficulty, and the rest is the luck of single answers.
"""

from __future__ import annotations

import argparse
import json
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import router_tasks as tasks
from benchmarks.router_tasks import Floats, Tables
from orchestrator.routing_data import merge
from profiler.errors import InputError
from serve_apps.router.evaluation import metrics
from serve_apps.router.outcomes import Outcomes
from serve_apps.router.training import train

FIRST_SEED = 12000
PAIRS = {
    "8B to 70B": (tasks.LLAMA_8B, tasks.LLAMA_70B),
    "70B to 405B": (tasks.LLAMA_70B, tasks.LLAMA_405B),
}
ELSEWHERE = {
    "8B to 70B": ("Meta-Llama-3.1-8B-Instruct", "Meta-Llama-3.1-70B-Instruct@hyperbolic"),
    "70B to 405B": ("Meta-Llama-3.1-70B-Instruct", "Llama-3.1-405B-Instruct@hyperbolic"),
}
"""The strong model of each pair as another host served it."""
ROUTERS: Mapping[str, tuple[str, str]] = {
    "default: text + low_rank": ("text", "low_rank"),
    "hand features": ("hand", "low_rank"),
    "WordLlama alone": ("static", "low_rank"),
    "MiniLM alone": ("sentence", "low_rank"),
    "text and WordLlama": ("text+static", "low_rank"),
    "text and MiniLM": ("text+sentence", "low_rank"),
    "kNN on text": ("text", "knn"),
    "kNN on MiniLM": ("sentence", "knn"),
    "logistic regression on text": ("text", "logistic"),
    "gradient boosting on text": ("text", "gradient_boosting"),
    "stacked: low_rank, kNN, logistic on text": ("text", "ensemble"),
}
MEMBERS = "low_rank,knn,logistic"
SHINGLE = 5
ALIKE = 0.3, 0.6
"""Two questions are one where shingles in common are over these shares of both, or of one."""

Ranking = Callable[[Outcomes, Outcomes], Floats]
Values = dict[str, dict[str, list[float]]]


def router(features: str, estimator: str, cache: str) -> Callable[[Outcomes, Outcomes], Any]:
    """Fit on the first table, estimate the second's prompts."""
    settings = {} if features in ("text", "hand") else {"cache_dir": cache}
    more = {"members": MEMBERS} if estimator == "ensemble" else {}

    def told(train_on: Outcomes, test: Outcomes) -> Any:
        made = train(
            train_on,
            features=features,
            estimator=estimator,
            feature_settings=settings,
            estimator_settings=more,
        )
        return made.estimate(test.prompts)

    return told


def gap_of(told: Any, weak: str, strong: str) -> Floats:
    """P(strong) - P(weak)."""
    at = told.models.index
    return np.asarray(told.quality[:, at(strong)] - told.quality[:, at(weak)])


def subject_known(told: Floats, train_on: Outcomes, test: Outcomes) -> Floats:
    """A ranking beside the mean gap of the test prompt's true subject, weighted alike."""
    gap = train_on.score[:, 1] - train_on.score[:, 0]
    of, overall = np.array(train_on.subject), float(gap.mean())
    mean = {s: (gap[of == s].sum() + 20 * overall) / ((of == s).sum() + 20) for s in set(of)}
    by_subject = np.array([mean.get(s, overall) for s in test.subject])
    return np.asarray(told / told.std() + by_subject / by_subject.std())


def others_known(train_on: Outcomes, test: Outcomes, weak: str, strong: str) -> Floats:
    """Ridge regression of the gap on what all other models made of the very same prompt.

    The pair's own weights, served elsewhere, are not among the others.
    """
    same = tuple(m.partition("@")[0] for m in (weak, strong))
    others = [m for m in train_on.models if not m.startswith(same)]
    mean = np.nanmean(train_on.only(others).score, axis=0)

    def seen(table: Outcomes) -> Floats:
        score = table.only(others).score
        x = np.where(np.isfinite(score), score - mean, 0.0)
        easy = 5 * x.mean(axis=1)
        kind = [[float(d == name) for name in sorted(set(train_on.dataset))] for d in table.dataset]
        return np.column_stack([x, easy, easy**2, kind])

    x, pair = seen(train_on), train_on.only((weak, strong)).score
    gap, centre = pair[:, 1] - pair[:, 0], x.mean(axis=0)
    gram = (x - centre).T @ (x - centre) + 30 * np.eye(x.shape[1])
    weights = np.linalg.solve(gram, (x - centre).T @ (gap - gap.mean()))
    return np.asarray((seen(test) - centre) @ weights)


def near_duplicates(questions: Outcomes, others: Outcomes) -> Floats:
    """Which of the others' prompts ask what one of the questions asks, by shingles of words."""
    known = [_shingles(p.text) for p in questions.prompts]
    holders: dict[str, list[int]] = defaultdict(list)
    for i, shingles in enumerate(known):
        for shingle in shingles:
            holders[shingle].append(i)
    found = []
    for prompt in others.prompts:
        own = _shingles(prompt.text)
        # What dozens of prompts share is a turn of phrase.
        lists = [holders.get(s, []) for s in own]
        common = Counter(i for held in lists if len(held) < 50 for i in held)
        found.append(any(_alike(n, own, known[i]) for i, n in common.items()))
    return np.array(found)


def _alike(common: int, a: set[str], b: set[str]) -> bool:
    return common > ALIKE[0] * len(a | b) or common > ALIKE[1] * min(len(a), len(b))


def _shingles(text: str) -> set[str]:
    stem = re.split(r"\n\s*\(?[A-J][.)]\s", text)[0].lower()
    words = re.sub(r"[^a-z0-9]+", " ", stem).split()
    return {" ".join(words[i : i + SHINGLE]) for i in range(max(1, len(words) - SHINGLE + 1))}


def mmlu(tables: Tables, seeds: range, cache: str, *, half: bool) -> Values:
    """Every router, the ceilings, and what MMLU-Pro's outcomes add."""
    table = tables.mmlu.only((tasks.MIXTRAL, tasks.GPT4))
    pro = tables.mmlu_pro.rows(~near_duplicates(table, tables.mmlu_pro).astype(bool))
    same = {"Mixtral-8x7B-Instruct-v0.1": tasks.MIXTRAL}
    pro = replace(pro, models=tuple(same.get(m, m) for m in pro.models))
    print(f"\nMMLU-Pro: {len(pro.prompts):,} of {len(tables.mmlu_pro.prompts):,} prompts are "
          "not near-duplicates of MMLU's")  # fmt: skip
    found: Values = defaultdict(lambda: defaultdict(list))
    for seed in seeds:
        parts = tasks.split(table, 0.5, seed) if half else tasks.split_count(table, 1500, seed)
        train_on, test = parts
        weak, strong = test.score.T

        def add(name: str, ranking: Floats, w: Floats = weak, s: Floats = strong) -> None:
            found[name]["APGR"].append(metrics.apgr(ranking, w, s))

        add("ceiling: oracle", strong - weak)
        add("prompt length", np.array([float(len(p.text)) for p in test.prompts]))
        for name, (features, estimator) in ROUTERS.items():
            told = router(features, estimator, cache)(train_on, test)
            lead = gap_of(told, tasks.MIXTRAL, tasks.GPT4)
            add(name, lead)
            if name.startswith("default"):
                add("ceiling: default, told the subject", subject_known(lead, train_on, test))
        joint = router("text", "low_rank", cache)(merge([train_on, pro]), test)
        add("default, with MMLU-Pro's outcomes", gap_of(joint, tasks.MIXTRAL, tasks.GPT4))
    return found


def curve(tables: Tables, seeds: range, _cache: str) -> Values:
    """The default by number of labelled prompts."""
    table = tables.mmlu.only((tasks.MIXTRAL, tasks.GPT4))
    found: Values = defaultdict(lambda: defaultdict(list))
    for seed in seeds:
        for count in (300, 750, 1500, 3000, 6000, 9000):
            train_on, test = tasks.split_count(table, count, seed)
            told = router("text", "low_rank", "")(train_on, test)
            lead = gap_of(told, tasks.MIXTRAL, tasks.GPT4)
            found[f"{count:,} labels"]["APGR"].append(metrics.apgr(lead, *test.score.T))
    return found


def zeroeval(tables: Tables, seeds: range, cache: str) -> Values:
    """Both pairs; each seed divides the prompts in two halves, each of which is the test once."""
    table = tables.zeroeval
    names = ("default: text + low_rank", "text and WordLlama", "text and MiniLM", "MiniLM alone")
    found: Values = defaultdict(lambda: defaultdict(list))
    for seed in seeds:
        half = tasks.split(table, 0.5, seed)
        for train_on, test in (half, half[::-1]):
            told = {name: router(*ROUTERS[name], cache)(train_on, test) for name in names}
            for pair, (weak, strong) in PAIRS.items():
                w, s = test.only((weak, strong)).score.T
                length = np.array([float(len(p.text)) for p in test.prompts])
                rankings = {name: gap_of(t, weak, strong) for name, t in told.items()} | {
                    "prompt length": length,
                    "ceiling: oracle": s - w,
                    "ceiling: told what all other models made of the prompt": others_known(
                        train_on, test, weak, strong
                    ),
                }
                for name, ranking in rankings.items():
                    found[name][pair].append(metrics.apgr(ranking, w, s))
                base, again = test.only(ELSEWHERE[pair]).score.T
                known = np.isfinite(again)
                ranking = (again - base)[known]
                found["ceiling: told the strong model's answer elsewhere"][pair].append(
                    metrics.apgr(ranking, w[known], s[known])
                )
    return found


def show(title: str, found: Values) -> dict[str, float]:
    """A Markdown table, the best first."""
    columns = list(next(iter(found.values())))
    print(f"\n### {title}\n\n| | {' | '.join(columns)} |\n|{' --- |' * (len(columns) + 1)}")
    kept: dict[str, float] = {}
    ranked = sorted(found.items(), key=lambda item: -float(np.mean(item[1][columns[0]])))
    for name, values in ranked:
        cells = [f"{np.mean(values[c]):.3f} ± {np.std(values[c]):.3f}" for c in columns]
        print(f"| {name} | {' | '.join(cells)} |", flush=True)
        kept |= {f"{title}: {name}: {c}": round(float(np.mean(values[c])), 4) for c in columns}
    return kept


def main() -> None:
    """Print every table; the last line is JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, default=tasks.DATA)
    parser.add_argument("--splits", type=int, default=3)
    parser.add_argument("--cache", default="", help="keep embeddings of prompts in this folder")
    parser.add_argument("--only", default="", help="only tables whose title has this text")
    given = parser.parse_args()
    if given.splits < 1:
        raise InputError(f"--splits {given.splits}: expected at least 1")
    tables = tasks.load(given.data)
    seeds = range(FIRST_SEED, FIRST_SEED + given.splits)
    result: dict[str, float] = {}
    for title, table in (
        ("MMLU, half labelled", lambda *a: mmlu(*a, half=True)),
        ("MMLU, 1,500 prompts labelled", lambda *a: mmlu(*a, half=False)),
        ("MMLU, by number of labels", curve),
        ("ZeroEval, half labelled, Llama 3.1", zeroeval),
    ):
        if given.only in title:
            result |= show(title, table(tables, seeds, given.cache))
    print(json.dumps(result))


if __name__ == "__main__":
    main()

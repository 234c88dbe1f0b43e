"""An outcome table of simulated models, to try `orchestrator router` on without asking any.

    python examples/simulated_outcomes.py simulated.parquet

Questions are of four kinds, some harder than others; a simulated model is right with a probability
that falls with the question's difficulty, the slower the larger the model. Nothing here says
anything about real models.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

SKILL = {"sim-2b": 0.6, "sim-8b": 1.6, "sim-30b": 2.3, "sim-70b": 3.0}
"""The difficulty at which a model is right every other time."""
THINGS = ("apples", "pens", "tickets", "bricks", "lamps", "chairs")
QUESTIONS = 2000


def lookup(rng: np.random.Generator) -> tuple[str, float]:
    """What anybody sees."""
    thing, number = rng.choice(THINGS), rng.integers(100, 10000)
    return f"Which is larger, {number} {thing} or {number + 1}? Answer with one number.", 0.0


def shop(rng: np.random.Generator) -> tuple[str, float]:
    """Sums in words: the more things are bought, the harder."""
    steps = int(rng.integers(1, 6))
    bought = [f"{rng.integers(2, 40)} {rng.choice(THINGS)} at ${rng.integers(1, 30)} each"]
    bought += [f"{rng.integers(2, 40)} {rng.choice(THINGS)}" for _ in range(steps - 1)]
    return f"Nadia buys {', then '.join(bought)}. How much does she spend in total?", steps / 2


def code(rng: np.random.Generator) -> tuple[str, float]:
    """What a loop prints: nested ones are harder."""
    depth = int(rng.integers(1, 4))
    loops = "".join(f"\n{'    ' * d}for i{d} in range({rng.integers(2, 9)}):" for d in range(depth))
    body = f"\n{'    ' * depth}n += i0 * {rng.integers(2, 9)}"
    return f"What does this print?\nn = 0{loops}{body}\nprint(n)", 0.8 * depth


def proof(rng: np.random.Generator) -> tuple[str, float]:
    """Proofs, hard for all."""
    p = rng.choice(("prime", "a perfect square", "divisible by 7", "the sum of two squares"))
    k = rng.integers(2, 60)
    return f"Prove or refute: if $n^2 + {k}$ is {p} then $\\sum_{{i<n}} i^2$ is not.", 2.8


KINDS: tuple[Callable[[np.random.Generator], tuple[str, float]], ...] = (lookup, shop, code, proof)


def main(path: Path) -> None:
    """Write the table."""
    rng = np.random.default_rng(0)
    kinds = [KINDS[i] for i in rng.integers(len(KINDS), size=QUESTIONS)]
    asked = [kind(rng) for kind in kinds]
    difficulty = np.array([d for _, d in asked])
    columns: dict[str, object] = {
        "id": [f"q{i}" for i in range(QUESTIONS)],
        "dataset": [kind.__name__ for kind in kinds],
        "prompt": [text for text, _ in asked],
    }
    for model, skill in SKILL.items():
        chance = 1 / (1 + np.exp(-3 * (skill - difficulty)))
        columns[f"s:{model}"] = (rng.random(QUESTIONS) < chance).astype(float)
        columns[f"ot:{model}"] = (20 + 60 * difficulty * rng.lognormal(0, 0.3, QUESTIONS)).round()
    pq.write_table(pa.table(columns), path)
    sys.stderr.write(f"wrote {path}: {QUESTIONS} questions x {len(SKILL)} simulated models\n")


if __name__ == "__main__":
    given = sys.argv[1:] or ["simulated.parquet"]
    if len(given) != 1 or given[0].startswith("-"):
        sys.exit("usage: python examples/simulated_outcomes.py [FILE.parquet]")
    main(Path(given[0]))

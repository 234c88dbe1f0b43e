"""Hand-made features: what a person would look at to guess how hard a prompt is.

Form (length, digits, formulas, code), kind of question (words that ask, choices offered), and
what surrounds the text: system prompt, turns, tools, images.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import log, log1p
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from serve_apps.router.estimates import Arrays
from serve_apps.router.features import scan
from serve_apps.router.features.scan import Scan
from serve_apps.router.prompts import Prompt

Floats = NDArray[np.float64]

VOCABULARY: Mapping[str, str] = {
    "calculates": "calculate compute evaluate solve find determine simplify integral derivative "
    "equation sum product total value many much per percent average rate cost",
    "proves": "prove show proof theorem lemma suppose assume let therefore hence implies iff",
    "explains": "explain describe discuss compare summarize analyze write essay list translate "
    "story email poem paragraph rewrite",
    "denies": "not except never false incorrect least cannot neither nor without unlikely",
    "chooses": "which following best most correct true statement statements option likely",
    "asks": "what who when where why how whose whom",
    "codes": "def return function python assert code class import for while if else print java "
    "javascript sql html array string int list",
    "conditions": "if then unless suppose given when whether would could should might may",
    "measures": "kg km cm mm ft lb mol hz joule watt volt meter meters second seconds hour hours "
    "minute minutes day days week weeks year years dollars dollar miles degrees",
    "sciences": "energy force velocity acid cell gene protein electron pressure temperature "
    "molecule reaction equilibrium current voltage enzyme atom matrix vector group field ring",
    "society": "law court contract state states government economy market price policy rights "
    "act plaintiff defendant social war president",
    "health": "patient disease symptoms treatment blood clinical diagnosis pain therapy drug",
    "pronouns": "i you he she they we his her their my your it",
    "small": "the a an of to in is are and or that with by from as on at be was for",
}
NAMES = (
    "log_bytes", "log_words", "log_lines", "word_length", "word_length_spread", "long_words",
    "digits", "upper", "spaces", "questions", "maths", "latex", "code", "stops", "quotes", "wide",
    "log_numbers", "number_length", "choices", "choice_length", "choice_digits", "stem_length",
    "blank", "distinct_words", "last_line_length",
    *VOCABULARY,
    "log_system_words", "log_turns", "log_tools", "images", "log_pixels", "limited", "log_limit",
)  # fmt: skip
TABLE_BITS = 14
AFTER_CHOICE = np.isin(np.arange(256), (ord("."), ord(")"), ord(":")))


class HandFeatures:
    """`NAMES` of each prompt, about standardised by the means and spreads of the training data."""

    name = "hand"

    def __init__(self, mean: Floats | None = None, spread: Floats | None = None) -> None:
        self._mean = np.zeros(len(NAMES)) if mean is None else mean
        self._spread = np.ones(len(NAMES)) if spread is None else spread

    def fit(self, prompts: Sequence[Prompt]) -> Self:
        """Learn means and spreads; a feature that never varies stays at zero."""
        values = raw_features(prompts, scan.scan([p.text for p in prompts]))
        spread = values.std(axis=0)
        return type(self)(values.mean(axis=0), np.where(spread > 1e-9, spread, np.inf))

    def transform(self, prompts: Sequence[Prompt]) -> Floats:
        """``[prompts, len(NAMES)]``, each within 5 spreads of its mean."""
        return self.of_scan(prompts, scan.scan([p.text for p in prompts]))

    def of_scan(self, prompts: Sequence[Prompt], scanned: Scan) -> Floats:
        """As `transform`, of prompts whose texts have been scanned."""
        values = (raw_features(prompts, scanned) - self._mean) / self._spread
        # An outlier in one feature must not outweigh all the others.
        return np.clip(values, -5.0, 5.0)

    def arrays(self) -> Arrays:
        """Means and spreads."""
        return {"mean": self._mean, "spread": self._spread}

    @classmethod
    def from_arrays(cls, arrays: Arrays) -> Self:
        """The extractor these arrays came from."""
        return cls(arrays["mean"], arrays["spread"])


def raw_features(prompts: Sequence[Prompt], s: Scan) -> Floats:
    """`NAMES` of each prompt, not standardised."""
    around = np.array([_around(p) for p in prompts]).reshape(len(prompts), 7)
    return np.concatenate([_form(s), _words(s), around], axis=1)


def _around(p: Prompt) -> tuple[float, ...]:
    return (
        log1p(p.system.count(" ") + 1 if p.system else 0),
        log(max(p.turns, 1)),
        log1p(p.tools),
        float(p.images),
        log1p(p.image_pixels),
        float(p.max_output_tokens is not None),
        log1p(p.max_output_tokens or 0),
    )


def _form(s: Scan) -> Floats:
    n = s.rows
    kinds = np.bincount(s.row * scan.KINDS + s.kind, minlength=n * scan.KINDS)
    kinds = kinds.reshape(n, scan.KINDS).astype(np.float64)
    size = np.maximum(s.length, 1)
    share = kinds / size[:, None]
    words = np.bincount(s.word_row, minlength=n)
    some = np.maximum(words, 1)
    length_sum = np.bincount(s.word_row, s.word_length, minlength=n)
    square_sum = np.bincount(s.word_row, s.word_length**2, minlength=n)
    mean = length_sum / some
    number = s.kind[s.word_at] == scan.DIGIT if s.word_at.size else np.zeros(0, bool)
    numbers = np.bincount(s.word_row[number], minlength=n)
    number_length = np.bincount(s.word_row[number], s.word_length[number], minlength=n)
    long_words = np.bincount(s.word_row[s.word_length >= 8], minlength=n)
    choices, choice_bytes, choice_digits, stem, last = _lines(s)
    underscore = s.letters == ord("_")
    blank = np.bincount(s.row[1:][underscore[1:] & underscore[:-1]], minlength=n)
    distinct = _distinct((s.word_row << 32) | (s.word_hash >> np.uint64(33)).astype(np.int64))
    columns = (
        np.log1p(s.length),
        np.log1p(words),
        np.log1p(kinds[:, scan.NEWLINE]),
        mean,
        np.sqrt(np.maximum(square_sum / some - mean**2, 0)),
        long_words / some,
        *share[:, scan.DIGIT : scan.SPACE + 1].T,
        *share[:, scan.QUESTION : scan.WIDE + 1].T,
        np.log1p(numbers),
        number_length / np.maximum(numbers, 1),
        choices,
        np.log1p(choice_bytes / np.maximum(choices, 1)),
        choice_digits / np.maximum(choice_bytes, 1),
        np.log1p(stem),
        blank > 0,
        np.bincount(distinct >> 32, minlength=n) / some,
        np.log1p(last),
    )
    # Filled in place: stacking so many small arrays would cost more than they do.
    form = np.empty((n, len(columns)))
    for at, column in enumerate(columns):
        form[:, at] = column
    return form


def _distinct(keys: NDArray[np.int64]) -> NDArray[np.int64]:
    """Sorted, once each; NumPy's own `unique` has more to decide first."""
    keys.sort()
    kept = np.ones(keys.size, dtype=bool)
    np.not_equal(keys[1:], keys[:-1], out=kept[1:])
    return np.asarray(keys[kept])


def _lines(s: Scan) -> tuple[NDArray[Any], ...]:
    """Of lines such as "B. 42": how many, their bytes and digits; bytes before them; last line."""
    n, size = s.rows, s.letters.size
    breaks = np.flatnonzero(s.kind == scan.NEWLINE)
    row = s.row[breaks]
    ends = s.start + s.length
    next_break = np.append(breaks[1:], size)
    stop = np.minimum(next_break, ends[row])
    inside = np.minimum(breaks + 2, size - 1)
    is_choice = (s.kind[inside - 1] == scan.UPPER) & AFTER_CHOICE[s.letters[inside]]
    is_choice &= breaks + 2 < stop
    digits_before = np.concatenate([[0], np.cumsum(s.kind == scan.DIGIT)])
    at, to, of = breaks[is_choice], stop[is_choice], row[is_choice]
    choices = np.bincount(of, minlength=n).astype(np.float64)
    choice_bytes = np.bincount(of, to - at - 3, minlength=n)
    choice_digits = np.bincount(of, digits_before[to] - digits_before[at], minlength=n)
    stem = s.length.astype(np.float64)
    # Written from the last choice to the first, so that the first one's place remains.
    stem[of[::-1]] = (at - s.start[of])[::-1]
    last = s.length.astype(np.float64)
    last[row] = ends[row] - breaks - 1
    return choices, choice_bytes, choice_digits, stem, last


def _words(s: Scan) -> Floats:
    """Share of a prompt's words that are in each list of `VOCABULARY`."""
    group = GROUP[(s.word_hash >> np.uint64(64 - TABLE_BITS)).astype(np.int64)]
    width = len(VOCABULARY) + 1
    counts = np.bincount(s.word_row * width + group, minlength=s.rows * width)
    per_row = counts.reshape(s.rows, width)
    return np.asarray(per_row[:, 1:] / np.maximum(per_row.sum(axis=1, keepdims=True), 1))


def _groups() -> NDArray[np.int64]:
    """List of `VOCABULARY`, from 1, by the high bits of a word's hash; a word keeps its first."""
    table = np.zeros(1 << TABLE_BITS, dtype=np.int64)
    for number, words in reversed(list(enumerate(VOCABULARY.values(), start=1))):
        hashes = scan.scan([words]).word_hash
        table[(hashes >> np.uint64(64 - TABLE_BITS)).astype(np.int64)] = number
    return table


GROUP = _groups()

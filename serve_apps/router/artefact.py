"""A trained router as one file: plain arrays and a description, and nothing that can run.

The file is NumPy's npz (a zip of arrays, read with ``allow_pickle=False``); one of its arrays is
the description, as JSON text: version, pool, hash of the training data, calibration error.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from profiler.errors import InputError
from serve_apps.router.estimates import Arrays, Estimates, Estimator, FeatureExtractor
from serve_apps.router.estimators import registry as estimators
from serve_apps.router.estimators.calibrated import CalibratedEstimator, part_of
from serve_apps.router.features import registry as features
from serve_apps.router.outcomes import Outcomes
from serve_apps.router.prompts import Prompt
from serve_apps.router.reference import Reference
from serve_apps.router.settings import HeldOut, Setting

VERSION = 2
KIND = "orchestrator-router"
DESCRIPTION = "description"
MOST_BYTES = 1 << 29
"""Of all arrays unpacked; the default router's are some 20 MB at most."""
UNFIT = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    MemoryError,
    RuntimeError,
    TypeError,
    ValueError,
)
"""What reading or using arrays raises that no training wrote."""


@dataclass(frozen=True)
class Description:
    """What an artefact says of itself.

    ``ece`` and ``brier`` are of held-out folds, ``brier_of_mean`` is that of always predicting
    each model's mean score; ``onboarded`` names models joined later, by how many probes. ``split``
    tells which prompts it never saw, ``setting`` what was calibrated for it.
    """

    models: tuple[str, ...]
    features: str
    estimator: str
    data_sha256: str
    prompts: int
    seed: int
    ece: float | None = None
    brier: float | None = None
    brier_of_mean: float | None = None
    onboarded: dict[str, int] = field(default_factory=dict)
    split: HeldOut | None = None
    setting: Setting | None = None
    version: int = VERSION


@dataclass(frozen=True)
class Artefact:
    """A fitted feature extractor and a fitted estimator for one pool of models."""

    description: Description
    features: FeatureExtractor
    estimator: Estimator
    reference: Reference | None = None

    @property
    def models(self) -> tuple[str, ...]:
        """The pool, in the order of every estimate's columns."""
        return self.description.models

    @property
    def bounded(self) -> bool:
        """Whether an estimate is arithmetic alone, on so much of a prompt and no more: then it may
        be made where nothing must wait. Others may load, call or compute for as long as they like,
        and so may what is derived from these.
        """
        from serve_apps.router.estimators.low_rank import LowRankScorer
        from serve_apps.router.features.hand import HandFeatures
        from serve_apps.router.features.text import TextFeatures

        scorer = getattr(self.estimator, "scorer", None)
        return (
            type(self.features) in (HandFeatures, TextFeatures)
            and type(self.estimator) is CalibratedEstimator
            and type(scorer) is LowRankScorer
        )

    def estimate(self, prompts: Sequence[Prompt]) -> Estimates:
        """What each model of the pool is expected to make of each prompt."""
        return self.estimator.estimate(self.features.transform(prompts))

    def expected(self, prompts: Sequence[Prompt]) -> Estimates:
        """As `estimate`, without the uncertainty where that is quicker to tell."""
        features = self.features.transform(prompts)
        if isinstance(self.estimator, CalibratedEstimator):
            return self.estimator.expected(features)
        return self.estimator.estimate(features)

    def reference_estimates(self) -> Estimates:
        """What is expected of the prompts it was calibrated on, by scorers that had not seen them.

        Raises:
            InputError: the artefact was trained before it kept such prompts.
        """
        if self.reference is None:
            raise InputError("the router artefact holds no calibration prompts; train it again")
        return self.reference.estimates(self.estimator)

    def require_pool(self, models: Sequence[str]) -> None:
        """Check that it was trained for these models.

        Raises:
            InputError: it knows nothing of one of them.
        """
        unknown = [m for m in models if m not in self.models]
        if unknown:
            raise InputError(
                f"this router artefact was trained for {', '.join(self.models)}; found "
                f"{', '.join(map(repr, unknown))} in the pool; train it on outcomes of these "
                "models, or let them join with `orchestrator router onboard`"
            )

    def only(self, models: Sequence[str]) -> PoolView:
        """Estimates for a part of the pool, in this order.

        Raises:
            InputError: a model it was not trained for.
        """
        self.require_pool(models)
        return PoolView(self, tuple(models))

    def reference_arrays(self) -> Arrays:
        """The reference as arrays; none where there is no reference."""
        return {} if self.reference is None else self.reference.arrays()

    def save(self, path: Path) -> None:
        """Write the file, whole or not at all.

        Raises:
            InputError: it cannot be written there.
        """
        arrays: dict[str, NDArray[Any]] = {
            DESCRIPTION: np.array(json.dumps({"kind": KIND, **asdict(self.description)})),
            **{f"features.{k}": v for k, v in self.features.arrays().items()},
            **{f"estimator.{k}": v for k, v in self.estimator.arrays().items()},
            **{f"reference.{k}": v for k, v in self.reference_arrays().items()},
        }
        try:
            with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
                unfinished = Path(file.name)
                try:
                    np.savez_compressed(file, allow_pickle=False, **arrays)
                    file.flush()
                    os.fsync(file.fileno())
                except BaseException:
                    unfinished.unlink(missing_ok=True)
                    raise
            unfinished.replace(path)
        except OSError as error:
            raise InputError(f"{path}: cannot write the artefact: {error.strerror}") from error


@dataclass(frozen=True)
class PoolView:
    """An artefact seen as one for a part of its pool."""

    artefact: Artefact
    models: tuple[str, ...]

    @property
    def bounded(self) -> bool:
        """As `Artefact.bounded`."""
        return self.artefact.bounded

    def estimate(self, prompts: Sequence[Prompt]) -> Estimates:
        """As `Artefact.estimate`, for these models only."""
        return self.artefact.estimate(prompts).only(self.models)

    def expected(self, prompts: Sequence[Prompt]) -> Estimates:
        """As `Artefact.expected`, for these models only."""
        return self.artefact.expected(prompts).only(self.models)


def load_artefact(path: Path, pool: Sequence[str] | None = None) -> Artefact:
    """Read an artefact, ready to use; ``pool``: models it must have been trained for.

    Raises:
        InputError: no such file, not an artefact, damaged, of a version this program does not
            read, or trained for another pool.
    """
    arrays = _read(path)
    description = _description(path, arrays)
    try:
        artefact = Artefact(
            description,
            features.feature_class(description.features).from_arrays(part_of(arrays, "features")),
            estimators.restore(description.estimator, part_of(arrays, "estimator")),
            Reference.from_arrays(part_of(arrays, "reference")),
        )
        _try_out(artefact)
    except UNFIT as error:
        raise InputError(
            f"{path}: the artefact is incomplete or damaged ({error}); train it again"
        ) from error
    if pool is not None:
        artefact.require_pool(pool)
    return artefact


def _try_out(artefact: Artefact) -> None:
    """Raises ValueError unless estimates are numbers, one for each model.

    Whatever is compiled or laid out at first use is so now, too, not at the first request.
    """
    ready = [Prompt("Are you ready?"), Prompt("What is 2 + 2?\nA. 3\nB. 4")]
    for told in (artefact.estimate(ready), artefact.expected(ready[:1])):
        if told.quality.shape[1:] != (len(artefact.models),):
            raise ValueError(f"estimates of {told.quality.shape[1:]} models")
        if not np.isfinite(told.quality).all() or not np.isfinite(told.output_tokens).all():
            raise ValueError("estimates that are no numbers")
    if artefact.reference is not None:
        artefact.reference_estimates()


def _read(path: Path) -> dict[str, NDArray[Any]]:
    if not path.exists():
        raise InputError(f"{path}: no such file; `orchestrator router train` makes an artefact")
    # What NumPy says of other files speaks of pickles, and of how to load them all the same.
    if not zipfile.is_zipfile(path):
        raise InputError(
            f"{path}: expected a router artefact (.npz), found another kind of file, or a damaged "
            "one"
        )
    try:
        _check_size(path)
        with path.open("rb") as opened:
            file = np.load(opened, allow_pickle=False)
            if not isinstance(file, np.lib.npyio.NpzFile):
                raise ValueError("a single array")
            with file:
                arrays = {name: file[name] for name in file.files}
        if empty := [name for name, array in arrays.items() if _has_nan(array)]:
            raise ValueError(f"{empty[0]} holds NaN")
    except (*UNFIT, OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise InputError(
            f"{path}: expected a router artefact, found a file that is none or is damaged: {error}"
        ) from error
    return arrays


def _check_size(path: Path) -> None:
    """Raises ValueError where the arrays would fill the memory: a small file may claim to."""
    with zipfile.ZipFile(path) as file:
        size = sum(member.file_size for member in file.infolist())
    if size > MOST_BYTES:
        raise ValueError(f"{size:,} bytes unpacked, expected at most {MOST_BYTES:,}")


def _has_nan(array: NDArray[Any]) -> bool:
    return array.dtype.kind == "f" and bool(np.isnan(array).any())


def _description(path: Path, arrays: Arrays) -> Description:
    try:
        told = json.loads(str(arrays[DESCRIPTION]))
        kind, version = told.pop("kind"), told["version"]
    except UNFIT as error:
        raise InputError(f"{path}: expected a router artefact, found no description") from error
    if kind != KIND:
        raise InputError(f"{path}: expected a router artefact, found {kind!r}")
    if version != VERSION:
        raise InputError(
            f"{path}: the artefact has version {version}, this program reads {VERSION}; "
            "train it again"
        )
    try:
        split, setting = told.get("split"), told.get("setting")
        parts = {
            "models": tuple(told["models"]),
            "split": HeldOut(**split) if split else None,
            "setting": Setting(**setting) if setting else None,
        }
        return Description(**told | parts)
    except (KeyError, TypeError) as error:
        raise InputError(f"{path}: the artefact's description is damaged: {error}") from error


def data_hash(outcomes: Outcomes) -> str:
    """SHA-256 of prompts, models, scores and lengths: equal data, equal hash."""
    digest = hashlib.sha256()
    for text in (*outcomes.models, *(p.text for p in outcomes.prompts)):
        digest.update(text.encode("utf-8", "surrogatepass") + b"\0")
    for matrix in (outcomes.score, outcomes.output_tokens):
        digest.update(np.ascontiguousarray(matrix, dtype="<f8").tobytes())
    return digest.hexdigest()

"""The learned state of policies as plain arrays, and back: what an artefact keeps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from profiler.errors import InputError
from serve_apps.router.policies.beliefs import Beliefs, Outlook, Stage
from serve_apps.router.policies.logistic import Logistic
from serve_apps.router.policies.preference import WorthTable
from serve_apps.router.policies.stepwise import Stepwise

Arrays = Mapping[str, NDArray[Any]]
_PARTS = ("weights", "bias", "centre", "scale")


def beliefs_to_arrays(beliefs: Beliefs) -> dict[str, NDArray[Any]]:
    """What a cascade learned."""
    kept: dict[str, NDArray[Any]] = {
        "order": np.array(beliefs.order),
        "strong": np.array(beliefs.strong),
        "accept": np.array(beliefs.accept),
    }
    for k, stage in enumerate(beliefs.stages):
        kept |= _named(f"{k}.right", stage.right)
        for j, outlook in stage.outlook.items():
            kept |= _named(f"{k}.{j}", outlook.told)
            kept[f"{k}.{j}.leads"] = outlook.leads
    return kept


def beliefs_from_arrays(arrays: Arrays) -> Beliefs:
    """The beliefs that `beliefs_to_arrays` kept.

    Raises:
        InputError: an array is missing.
    """
    try:
        order = tuple(str(m) for m in arrays["order"])
        last = len(order)
        stages = tuple(
            Stage(
                _logistic(arrays, f"{k}.right"),
                {
                    j: Outlook(_logistic(arrays, f"{k}.{j}"), arrays[f"{k}.{j}.leads"])
                    for j in range(k + 1, last + 1)
                },
            )
            for k in range(last + 1)
        )
        accept = tuple(bool(a) for a in arrays["accept"])
        return Beliefs(order, str(arrays["strong"]), accept, stages)
    except KeyError as error:
        raise InputError(
            f"cascade: found no array {error}; expected one made by training"
        ) from None


def _named(name: str, model: Logistic) -> dict[str, NDArray[Any]]:
    return {f"{name}.{part}": np.asarray(getattr(model, part)) for part in _PARTS}


def _logistic(arrays: Arrays, name: str) -> Logistic:
    return Logistic(*(np.asarray(arrays[f"{name}.{part}"]) for part in _PARTS))


def worth_table_to_arrays(table: WorthTable) -> dict[str, NDArray[Any]]:
    """A calibration."""
    return {"worth": table.worth, "share": table.share, "cost": table.cost}


def worth_table_from_arrays(arrays: Arrays) -> WorthTable:
    """The calibration that `worth_table_to_arrays` kept."""
    return WorthTable(arrays["worth"], arrays["share"], arrays["cost"])


def stepwise_to_arrays(policy: Stepwise) -> dict[str, NDArray[Any]]:
    """A trained controller with its threshold."""
    return {
        "models": np.array([policy.small, policy.large]),
        "weights": policy.weights,
        "threshold": np.array(policy.threshold),
    }


def stepwise_from_arrays(arrays: Arrays) -> Stepwise:
    """The controller that `stepwise_to_arrays` kept."""
    small, large = (str(m) for m in arrays["models"])
    return Stepwise(small, large, arrays["weights"], float(arrays["threshold"]))

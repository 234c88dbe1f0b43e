"""Problems whose loads are given outright, so that a test can work its answer out by hand."""

from __future__ import annotations

from typing import Any

import numpy as np

from placement.problem import Option, Problem
from tests.builders import gpu, model, profile, request_class, slo


def option(
    gpu: str = "A",
    usd_per_hour: float = 1.0,
    *,
    model: str = "m",
    market: Any = "on_demand",
    region: str = "",
    gpus: int = 1,
    node_gpus: int = 1,
) -> Option:
    return Option(
        profile(model, gpu, tensor_parallel=gpus), market, usd_per_hour, region, node_gpus
    )


def loaded(
    options: tuple[Option, ...],
    load_s: Any = 1.0,
    *,
    rates: tuple[float, ...] = (1.0,),
    headroom: float = 1.0,
    **kwargs: Any,
) -> Problem:
    """One class per rate; ``load_s`` is broadcast to ``[classes, options]``."""
    classes = kwargs.pop(
        "classes", tuple(request_class(r, 100 * (i + 1)) for i, r in enumerate(rates))
    )
    shape = (len(classes), len(options))
    quality = kwargs.pop("quality", None)
    return Problem(
        slo=slo(),
        classes=classes,
        options=options,
        stocks=kwargs.pop("stocks", ()),
        headroom=headroom,
        load_s=np.broadcast_to(np.array(load_s, dtype=float), shape).copy(),
        quality=None if quality is None else np.broadcast_to(np.array(quality, float), shape),
        models={o.model: model(o.model) for o in options},
        gpus={o.gpu: gpu(o.gpu) for o in options},
        **kwargs,
    )

"""Builders of comparisons of routers."""

from __future__ import annotations

import numpy as np

from serve_apps.router.evaluation.bootstrap import Difference
from serve_apps.router.evaluation.comparison import Comparison, Figure, Row
from serve_apps.router.evaluation.metrics import Curve

LINE = Curve(np.array([0.0, 1.0]), np.array([0.0, 1.0]))


def comparison() -> Comparison:
    """A router ahead of a baseline, and one that never reaches a target."""
    leads = {"zero router": Difference(0.2, 0.1, 0.3, 0.0)}
    return Comparison(
        title="a <b> to c",
        lead_in="APGR",
        rows=(
            Row("zero router", {"APGR": Figure((0.5, 0.5))}, curve=LINE, baseline=True),
            Row(
                "ours & co",
                {"APGR": Figure((0.6, 0.8)), "CPT(50)": Figure((0.2, float("inf")))},
                leads,
                Curve(np.linspace(0, 1, 2000), np.linspace(0, 1, 2000) ** 0.5),
            ),
            Row("fixed", {"APGR": Figure((0.4, 0.4))}, curve=Curve(np.ones(1), np.ones(1))),
        ),
        splits=2,
        prompts=1234,
    )

"""AIBrix's gpu_optimizer profile: rates of one GPU inside an SLO, with latencies.

    {"gpu": ..., "cost": ..., "tputs": [[..]], "indexes": [[outputs], [inputs]],
     "e2e": [[..]], "ttft": [[..]], "slos": {"percentile": 99, "ttft": .., "tpot": ..}}

Every matrix is ``[output][input]``, the opposite of Mélange's, as ``indexes`` says. A zero says
that no rate kept the limits; the latencies beside it belong to another rate and are left alone.
A percentile of 0 means that the limits were held against means.

An end-to-end limit E alone bounds each latency of a request of o output tokens: TTFT by E, TPOT
by E / (o - 1). Its rates are kept under those bounds, where nothing tighter is said.

Where a file has e2e and TTFT, their difference gives TPOT at a known rate, so the law is fitted;
if there are too few of them, it is computed.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass, replace

from profiler.core import MeasuredRate, Profile, Slo
from profiler.errors import InputError
from profiler.importers.fields import Node
from profiler.importers.runs import Run, Source, profile_of
from profiler.importers.setting import Setting

MEANS = 0.5
"""The attainment that limits on means are taken for."""

Matrix = list[list[float]]


@dataclass(frozen=True)
class Sizes:
    """The axes of every matrix in a file."""

    outputs: list[float]
    inputs: list[float]

    def matrix(self, node: Node) -> Matrix:
        """A matrix of the file, ``[output][input]``."""
        return node.matrix(len(self.outputs), len(self.inputs), "outputs x inputs")


def read(documents: Sequence[Node], setting: Setting) -> list[Profile]:
    """One profile for each file.

    Raises:
        InputError: with the path of the key that is wrong.
    """
    if len(documents) > 1 and setting.gpus:
        raise InputError("AIBrix profiles are about one GPU each; import them one by one")
    return [_profile(document, setting) for document in documents]


def _profile(document: Node, setting: Setting) -> Profile:
    if "gpu_info" in document or "indexes" not in document:
        raise InputError(
            f"{document.where}: has no 'indexes', which tells AIBrix's sizes; if its matrix is "
            "[input][output], use --format melange"
        )
    gpu = setting.only_gpu(document["gpu"].where, document["gpu"].text())
    sizes = _sizes(document["indexes"])
    tputs = sizes.matrix(document["tputs"])
    rates = tuple(
        MeasuredRate(input_tokens=i, output_tokens=o, rate_rps=rate, slo=_slo(document, setting, o))
        for o, row in zip(sizes.outputs, tputs, strict=True)
        for i, rate in zip(sizes.inputs, row, strict=True)
    )
    created = document.get("created")
    date = dt.datetime.fromtimestamp(created.number(), dt.UTC).date() if created else None
    cost = document["cost"].number(above=0)
    note = (
        f"rates measured with AIBrix ({document.origin}: {document['gpu'].text()}, cost {cost:g})"
    )
    runs = _runs(document, sizes, tputs)
    if runs:
        try:
            found = profile_of(
                runs, replace(setting, ttft_s=None, tpot_s=None), gpu, Source("AIBrix", None, date)
            )
            return found.model_copy(update={"rates": rates})
        except InputError as error:
            note += f"; its latencies do not identify the law ({len(runs)} sizes: {error})"
    return setting.profile(
        gpu, rates=rates, provenance=setting.computed_law(gpu, date, note)
    )  # fmt: skip


def _sizes(indexes: Node) -> Sizes:
    axes = indexes.items()
    if len(axes) != 2:
        raise indexes.wrong("[[output sizes], [input sizes]]")
    outputs, inputs = ([n.number(above=0) for n in axis.items()] for axis in axes)
    return Sizes(outputs, inputs)


def _slo(document: Node, setting: Setting, output_tokens: float) -> Slo:
    """The limits that the rates of one answer length kept."""
    slos = document.get("slos")
    said = {k: n.number() for k in ("ttft", "tpot", "e2e") if slos and (n := slos.get(k))}
    percentile = slos.get("percentile") if slos else None
    share = percentile.number() / 100 if percentile else None
    e2e = said.get("e2e")
    ttft, tpot = said.get("ttft"), said.get("tpot")
    if e2e is not None:
        ttft = ttft if ttft is not None or setting.ttft_s else e2e
        tpot = tpot if tpot is not None or setting.tpot_s else e2e / max(output_tokens - 1, 1)
    attainment = None if share is None else share or MEANS
    return setting.slo(
        (slos or document).where, ttft_s=ttft, tpot_s=tpot, attainment=attainment
    )  # fmt: skip


def _runs(document: Node, sizes: Sizes, tputs: Matrix) -> list[Run]:
    """The rates as runs, where the file has the latencies that go with them."""
    e2e, ttft = document.get("e2e"), document.get("ttft")
    if e2e is None or ttft is None:
        return []
    latency, first = sizes.matrix(e2e), sizes.matrix(ttft)
    found = []
    for r, o in enumerate(sizes.outputs):
        for c, i in enumerate(sizes.inputs):
            tpot = (latency[r][c] - first[r][c]) / max(o - 1, 1)
            if tputs[r][c] > 0 and o > 1 and tpot > 0:
                where = f"{document.where}: tputs[{r}][{c}]"
                found.append(Run(where, i, o, tputs[r][c], first[r][c], tpot, "poisson"))
    return found

"""Mélange's ``gpu_info``: for each GPU a price and ``tputs[input][output]``, requests per second.

    {"A10G": {"cost": 1.01, "tputs": [[2, 1], [5, 2]]}, ...}

bare or under ``gpu_info``. The file names neither sizes nor latency limits. Sizes come from the
keys ``input_tokens`` and ``output_tokens`` beside the GPUs, or from the user; one more on each
axis than the matrix has are the edges of buckets, each of which then stands for its upper edges.
Rows are inputs: that is this format's order, and the opposite of AIBrix's. A zero says that no
rate kept the limits.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from profiler.core import MeasuredRate, Profile, Slo
from profiler.errors import InputError, UnknownNameError
from profiler.importers.fields import Node
from profiler.importers.setting import Setting

BESIDE_GPUS = (
    "input_tokens", "output_tokens", "workload_distribution", "total_request_rate", "slice_factor",
)  # fmt: skip


def read(documents: Sequence[Node], setting: Setting) -> list[Profile]:
    """One profile for each GPU of each file, or for those that ``setting.gpus`` names.

    Raises:
        InputError: with the path of the key that is wrong.
    """
    return [p for document in documents for p in _profiles(document, setting)]


def _profiles(document: Node, setting: Setting) -> list[Profile]:
    if "indexes" in document:
        raise InputError(
            f"{document.where}: has 'indexes', as AIBrix's files do, whose matrix is "
            "[output][input]; use --format aibrix"
        )
    inside = document.get("gpu_info") or document
    entries = {k: n for k, n in inside.entries() if inside is not document or k not in BESIDE_GPUS}
    for name in setting.gpus:
        if name not in entries:
            raise InputError(f"{inside.where}: {UnknownNameError('GPU', name, entries)}")
    inputs = _sizes(document, "input_tokens", setting.input_tokens)
    outputs = _sizes(document, "output_tokens", setting.output_tokens)
    chosen = {k: n for k, n in entries.items() if not setting.gpus or k in setting.gpus}
    slo = setting.slo(document.where)
    return [_profile(name, node, setting, inputs, outputs, slo) for name, node in chosen.items()]


def _profile(
    name: str,
    node: Node,
    setting: Setting,
    inputs: list[float],
    outputs: list[float],
    slo: Slo,
) -> Profile:
    gpu = setting.gpu(name, node.where)
    cost = node["cost"].number(above=0)
    tputs = node["tputs"]
    rows, columns = len(tputs.items()), len(tputs.items()[0].items()) if tputs.items() else 0
    # Both axes or neither: one alone would take a turned matrix for a right one.
    if (len(inputs), len(outputs)) == (rows + 1, columns + 1):
        inputs, outputs = inputs[1:], outputs[1:]
    table = tputs.matrix(len(inputs), len(outputs), "inputs x outputs")
    rates = tuple(
        MeasuredRate(input_tokens=i, output_tokens=o, rate_rps=rate, slo=slo)
        for i, row in zip(inputs, table, strict=True)
        for o, rate in zip(outputs, row, strict=True)
    )
    note = f"rates measured with Mélange ({node.where}), at ${cost:g}/h there"
    return setting.profile(
        gpu, rates=rates, provenance=setting.computed_law(gpu, None, note)
    )  # fmt: skip


def _sizes(document: Node, key: str, said: tuple[float, ...]) -> list[float]:
    written = document.get(key)
    if said and written:
        raise InputError(
            f"{written.where}: found sizes here and as an option; leave the option out"
        )
    sizes = [n.number(above=-1) for n in written.items()] if written else list(said)
    if not sizes:
        flag = key.replace("_", "-")
        raise InputError(
            f"{document.where}: does not say which sizes its rates are for; pass --{flag} 25,100 "
            f"(or add {key!r}: [25, 100] to the file)"
        )
    if any(a >= b for a, b in pairwise(sizes)):
        raise InputError(f"{document.where}: {key}: found {sizes}, expected rising sizes")
    return sizes

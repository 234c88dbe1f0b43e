"""The load policy that a plan brings along: in force where it is for this pool and worth it."""

from __future__ import annotations

import base64
import binascii
import hashlib
import logging
from collections.abc import Callable
from pathlib import Path

from placement.plan import Plan, PlannedLoadPolicy
from profiler.errors import InputError
from serve_apps.router.load_policies import Learned, LoadPolicy, Priced, Supervised
from serve_apps.router.load_values import LoadValues, load_values, values_of

log = logging.getLogger("orchestrator.router")


def with_load_policy(plan: Plan, path: Path, *, insist: bool = False) -> tuple[Plan, LoadValues]:
    """The plan with a policy file in it, and the policy; see `acts` for what becomes of it.

    Raises:
        InputError: the plan has no learned router or one that learns by feedback, the file is no
            load policy, or it was trained for another pool.
    """
    router = plan.router
    if router is None:
        raise InputError(
            f"{path}: the plan {plan.service!r} has no learned router, and a load policy needs one "
            "to tell how good each model's answer would be; name an artefact under `router:` in "
            "the service file and plan again"
        )
    if router.policy != "utility":
        raise InputError(
            f"{path}: the plan's router has the policy {router.policy!r}, which chooses by what "
            "feedback taught; a load policy goes with 'utility'"
        )
    values = load_values(path)
    values.require_pool(plan, str(path))
    content = path.read_bytes()
    told = PlannedLoadPolicy(
        file=path.name,
        sha256=hashlib.sha256(content).hexdigest(),
        content=base64.b64encode(content).decode(),
        insist=insist,
    )
    changed = router.model_copy(update={"load_policy": told})
    return plan.model_copy(update={"router": changed}), values


def acts(values: LoadValues, *, insist: bool) -> bool:
    """Whether a policy chooses: it won its trial, or the operator insists."""
    return values.verdict.better or insist


def in_a_line(values: LoadValues, *, insist: bool) -> str:
    """What the policy's trial says, and what follows."""
    v = values.verdict
    told = (
        f"in its trial it earned {v.learned:.4f} of the best model's quality, prices "
        f"{v.priced:.4f} (error of the difference {v.error:.4f}), inside the SLO "
        f"{v.learned_attainment:.4f} and {v.priced_attainment:.4f}"
    )
    if v.better:
        return f"load policy: {told}; it chooses the model of `auto`"
    if insist:
        return f"load policy: {told}; not clearly better, but you insist: it chooses all the same"
    return f"load policy: {told}; not clearly better, so prices go on choosing"


def planned_policy(plan: Plan, clock: Callable[[], float]) -> LoadPolicy:
    """Who chooses by the plan: prices, where it brings no policy or one that may not act here."""
    told = plan.router.load_policy if plan.router is not None else None
    if told is None:
        return Priced()
    name = f"load policy {told.version}"
    try:
        values = values_of(_content(told), name)
        values.require_pool(plan, name)
    except InputError:
        log.exception("%s cannot be used; prices choose", name)
        return Priced()
    if not acts(values, insist=told.insist):
        log.warning("%s did not win its trial; prices choose", name)
        return Priced()
    return Supervised(name, Learned(values), Priced(), clock)


def _content(told: PlannedLoadPolicy) -> bytes:
    try:
        content = base64.b64decode(told.content, validate=True)
    except binascii.Error as error:
        raise InputError(f"load policy {told.version}: no base64 ({error})") from None
    if hashlib.sha256(content).hexdigest() != told.sha256:
        raise InputError(f"load policy {told.version}: the content is not that of this hash")
    return content

"""The way from one RayService to the next on a running cluster, so that no request finds nobody.

Serve stops at once what a new config does not name, and what is new takes minutes to start. So new
engines are started beside the old ones first, then the ingress routes by the new plan, then the
others go.
"""

from __future__ import annotations

import copy
import dataclasses
import math
from collections import Counter
from collections.abc import Mapping
from typing import Any

from manifests.objects import STEP_ANNOTATION, Object
from manifests.ray_service import NODE_LABEL
from manifests.serve_config import ENGINE_IMPORT, INGRESS_APP
from manifests.worker_groups import CPU_SLOT
from orchestrator.deploy.kube.changes import groups_of
from orchestrator.deploy.kube.replicas import config_of, engine_in
from profiler.documents import dump_data

Apps = Mapping[str, Object]


@dataclasses.dataclass(frozen=True)
class Step:
    """A RayService to be in force before the one that is wanted.

    ``room`` are the worker groups in which engines that are to go have pods; ``routes`` says that
    the ingress goes by the new plan.
    """

    service: Object
    room: frozenset[str] = frozenset()
    routes: bool = False


def steps(live: Object, wanted: Object, cluster: Object) -> list[Step]:
    """What to apply before ``wanted``; nothing where no engine goes and no group of pods is added.

    The operator gives a running cluster all sizes anew when a group is added, so none may be less
    than what the ``cluster`` has now while its engines serve.
    """
    old, new = _engines(live), _engines(wanted)
    going = {n: a for n, a in old.items() if _count(a) > _count(new.get(n))}
    added = groups_of(wanted).keys() - groups_of(live).keys()
    starting = [n for n, a in new.items() if _count(a) > _count(old.get(n))]
    fronts = [_front(s) for s in (live, wanted)]
    engines = _beside(going, new, live, wanted)
    made = []
    if added or (going and starting):
        service = _staged("start engines", live, wanted, cluster, [*engines, fronts[0]])
        made.append(Step(service, frozenset(map(_worker, going.values()))))
    if going and fronts[0] != fronts[1]:
        service = _staged("route", live, wanted, cluster, [*engines, fronts[1]])
        made.append(Step(service, routes=True))
    return made


def _beside(going: Apps, new: Apps, live: Object, wanted: Object) -> list[Object]:
    """The new engines, and of those that go as many as may stay until these serve.

    Ray's autoscaler makes pods for both, and removes them later. Without it pods stay for good, so
    there both share those that are there or are planned.
    """
    elastic = bool(wanted["spec"]["rayClusterConfig"].get("enableInTreeAutoscaling"))
    taken = _gpus(new)
    kept: dict[str, int] = {}
    for name, app in going.items():
        fits = _count(app) - _count(new.get(name))
        if not elastic:
            worker = _worker(app)
            free = _slots(worker, live, wanted) - taken[worker]
            fits = max(0, min(fits, int(free // _claim(app))))
            taken[worker] += math.ceil(fits * _claim(app))
        kept[name] = _count(new.get(name)) + fits
    engines = [_with_count(a, kept.get(n, _count(a))) for n, a in new.items()]
    return engines + [_with_count(a, kept[n]) for n, a in going.items() if n not in new and kept[n]]


def _staged(step: str, live: Object, wanted: Object, cluster: Object, apps: list[Object]) -> Object:
    made = copy.deepcopy(wanted)
    made["metadata"].setdefault("annotations", {})[STEP_ANNOTATION] = step
    made["spec"]["serveConfigV2"] = dump_data({**config_of(wanted), "applications": apps})
    needed = _gpus({a["name"]: a for a in apps if a["import_path"] == ENGINE_IMPORT})
    before = {g["groupName"]: g for g in cluster["spec"].get("workerGroupSpecs", ())}
    lives = groups_of(live)
    for group in made["spec"]["rayClusterConfig"]["workerGroupSpecs"]:
        name = group["groupName"]
        pods = math.ceil(needed[name] / _pod_size(group))
        for key in ("replicas", "maxReplicas"):
            others = (int(g.get(name, {}).get(key, 0)) for g in (before, lives))
            group[key] = max(pods, int(group.get(key, 0)), *others)
    return made


def _engines(service: Object) -> dict[str, Object]:
    apps = config_of(service)["applications"]
    return {a["name"]: a for a in apps if a["import_path"] == ENGINE_IMPORT}


def _front(service: Object) -> Object:
    apps = config_of(service)["applications"]
    return next(a for a in apps if a["name"] == INGRESS_APP)


def _deployment(app: Object) -> Object:
    return engine_in({"applications": [app]}, app["name"])


def _count(app: Object | None) -> int:
    return 0 if app is None else int(_deployment(app)["num_replicas"])


def _with_count(app: Object, replicas: int) -> Object:
    made = copy.deepcopy(app)
    _deployment(made)["num_replicas"] = replicas
    return made


def _options(app: Object) -> Mapping[str, Any]:
    found: Mapping[str, Any] = _deployment(app).get("ray_actor_options") or {}
    return found


def _worker(app: Object) -> str:
    """The worker group that an application is held to."""
    return str((_options(app).get("label_selector") or {}).get(NODE_LABEL, ""))


def _claim(app: Object) -> float:
    """Accelerators, or engine slots without them, that a replica takes of a pod."""
    options = _options(app)
    slots = (options.get("resources") or {}).get(CPU_SLOT, 0)
    return float(options.get("num_gpus") or slots or 1)


def _gpus(apps: Apps) -> Counter[str]:
    found: Counter[str] = Counter()
    for app in apps.values():
        found[_worker(app)] += math.ceil(_count(app) * _claim(app))
    return found


def _slots(worker: str, *services: Object) -> float:
    """What the pods of a worker group have, in the larger of two RayServices."""
    groups = [g for s in services if (g := groups_of(s).get(worker))]
    return max((int(g.get("replicas", 0)) * _pod_size(g) for g in groups), default=0.0)


def _pod_size(group: Mapping[str, Any]) -> float:
    resources = group.get("resources") or {}
    return float(resources.get("GPU") or resources.get(CPU_SLOT) or 1)

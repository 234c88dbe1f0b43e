"""What deploying a plan on a Ray cluster changes, in words."""

from __future__ import annotations

from collections.abc import Mapping

from manifests.serve_config import INGRESS_IMPORT
from orchestrator.deploy.rayserve.config import Object, Wanted, ingress_name
from orchestrator.deploy.rayserve.seen import Seen, differences
from orchestrator.report import plan_changes


def changes(seen: Seen, wanted: Wanted) -> list[str]:
    """What deploying changes, a line each."""
    before, after = seen.configs, wanted.applications
    if not differences(_unsigned(after), _unsigned(before)):
        return []
    lines = plan_changes(seen.plan, wanted.plan)
    note = seen.note
    if note is not None and note.emulated != wanted.note.emulated:
        kinds = ("real", "emulated")
        lines.append(f"~ engines: {kinds[note.emulated]} -> {kinds[wanted.note.emulated]}")
    replaced = {g: a for g, a in seen.app_of.items() if g in wanted.engines}
    for group, app in replaced.items():
        if wanted.engines[group].name != app and not any(f" {group}:" in ln for ln in lines):
            lines.append(f"~ {group}: engine settings change, its replicas are replaced")
    front = ingress_name(wanted.plan.service)
    if front in before and before[front].get("args") != after[front].get("args"):
        lines.append("~ ingress: its settings change, its processes are replaced")
    return lines or ["~ routing shares or predictions change, no engine does"]


def _unsigned(configs: Mapping[str, Object]) -> dict[str, Object]:
    """Configs without who deployed them, when."""
    found = dict(configs)
    for name, config in configs.items():
        if config.get("import_path") != INGRESS_IMPORT:
            continue
        deployment = config["deployments"][0]
        user = dict(deployment.get("user_config") or {})
        note = {k: v for k, v in (user.get("deployment") or {}).items() if k not in ("by", "at_s")}
        told = deployment | {"user_config": user | {"deployment": note}}
        found[name] = dict(config) | {"deployments": [told]}
    return found

"""`render`: a plan as Kubernetes manifests, in a directory."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from orchestrator.cli.output import YesOption, say

SETTINGS_HELP = "Settings of the Kubernetes target; kubernetes.yaml beside the plan otherwise."


def render(
    plan: Annotated[Path, typer.Argument(help="The plan file.")],
    directory: Annotated[Path, typer.Option("--directory", "-d", help="Where to write.")],
    settings: Annotated[Path | None, typer.Option("--settings", help=SETTINGS_HELP)] = None,
    helm: Annotated[bool, typer.Option("--helm", help="A Helm chart instead.")] = False,
    yes: YesOption = False,
) -> None:
    """Write a plan as Kubernetes manifests: a kustomize base with an example overlay.

    Nothing is applied; `deploy --target kubernetes` does that.
    """
    from manifests.bundle import render as render_objects
    from manifests.helm import helm_files
    from manifests.kustomize import kustomize_files
    from orchestrator.deploy.kubernetes_settings import read_settings
    from orchestrator.learned_router import checked_artefact
    from orchestrator.rendering import write_tree
    from placement.plan import Plan
    from profiler import documents
    from serve_apps.seeing.alerts import rules
    from serve_apps.seeing.grafana import dashboards

    wanted = documents.read(plan, Plan)
    chosen = read_settings(plan, settings)
    artefact = None
    if chosen.router_artefact_path is None:
        artefact = checked_artefact(wanted, plan.parent)
    objects = render_objects(
        wanted, chosen, artefact=artefact, rule_groups=rules()["groups"], dashboards=dashboards()
    )
    files = helm_files(objects, wanted, chosen) if helm else kustomize_files(objects)
    count = write_tree(directory, files, replace=yes)
    how = f"helm install {wanted.service} {directory} -n {chosen.namespace}"
    if not helm:
        how = f"kubectl apply --server-side -k {directory}/base"
    say(f"{count} of {len(files)} files written to {directory}; put them in force with: {how}")


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command()(render)

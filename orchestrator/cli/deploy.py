"""`deploy`, `status` and `delete`: a plan on this machine, a Ray cluster or Kubernetes."""

from __future__ import annotations

import enum
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cli.door_options import Door
from orchestrator.cli.load_policy_options import InsistOption, LoadPolicy, LoadPolicyOption
from orchestrator.cli.output import (
    Format,
    OutputOption,
    YesOption,
    confirm,
    emit,
    say,
    stderr,
    usd,
)

if TYPE_CHECKING:
    from rich.table import Table

    from orchestrator.deploy.base import GroupStatus, Progress, Status


class TargetName(enum.StrEnum):
    """Where a plan can be put."""

    LOCAL = "local"
    RAY = "ray"
    KUBERNETES = "kubernetes"


TargetOption = Annotated[TargetName, typer.Option("--target", "-t", help="Where to put it.")]
ContextOption = Annotated[
    str | None, typer.Option("--context", help="Of the kubeconfig; kubernetes only.")
]
KubeconfigOption = Annotated[
    Path | None, typer.Option("--kubeconfig", help="Instead of kubectl's own; kubernetes only.")
]
NamespaceOption = Annotated[
    str, typer.Option("--namespace", "-n", help="Where the service is; kubernetes only.")
]
AddressOption = Annotated[
    str | None,
    typer.Option(
        "--address",
        envvar="RAY_DASHBOARD_ADDRESS",
        help="Of the Ray dashboard, such as http://HEAD:8265; ray only.",
    ),
]
NO_AUTOSCALE = "--autoscale: not on a Ray cluster; run beside it: orchestrator autoscale"
NameArgument = Annotated[str, typer.Argument(help="The service's name.")]


def deploy(
    plan: Annotated[Path, typer.Argument(help="The plan file.")],
    target: TargetOption = TargetName.LOCAL,
    port: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=65535,
            help="Of the OpenAI API; by default the plan's locally, 8080 on a Ray cluster.",
        ),
    ] = None,
    address: AddressOption = None,
    ship_code: Annotated[
        bool,
        typer.Option("--ship-code", help="Send our code along; else the image has it; ray only."),
    ] = False,
    router_artefact: Annotated[
        str | None,
        typer.Option(help="The router's file, by its path on the cluster's nodes; ray only."),
    ] = None,
    load_policy: LoadPolicyOption = None,
    insist: InsistOption = False,
    host: Annotated[
        str | None,
        typer.Option(help="Address that clients come to; 0.0.0.0: all. The plan's otherwise."),
    ] = None,
    keys: Annotated[
        Path | None,
        typer.Option(
            help="API keys, see `keys create`; the plan's otherwise. Ray: a path on its nodes."
        ),
    ] = None,
    open_: Annotated[
        bool, typer.Option("--open", help="No keys, on purpose: serve whoever reaches it.")
    ] = False,
    processes: Annotated[
        int | None,
        typer.Option("--ingress-processes", min=1, help="That answer at a time; local only."),
    ] = None,
    wait: Annotated[
        float | None,
        typer.Option(min=1.0, help="Seconds to wait until healthy; 900 locally, else 1800."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would change; change nothing.")
    ] = False,
    keep: Annotated[
        bool, typer.Option("--keep", help="Leave what runs when the deployment fails.")
    ] = False,
    settings: Annotated[
        Path | None,
        typer.Option(help="Of the cluster; kubernetes.yaml beside the plan otherwise."),
    ] = None,
    context: ContextOption = None,
    kubeconfig: KubeconfigOption = None,
    force_conflicts: Annotated[
        bool,
        typer.Option("--force-conflicts", help="Take over fields that others manage; kubernetes."),
    ] = False,
    emulate: Annotated[
        bool,
        typer.Option("--emulate", help="No GPUs: engines that only keep the profiles' time."),
    ] = False,
    autoscale: Annotated[
        bool,
        typer.Option(
            "--autoscale", help="Let the pool change its replicas by itself, as its load asks for."
        ),
    ] = False,
    yes: YesOption = False,
    output: OutputOption = Format.TABLE,
) -> None:
    """Run a plan's engines behind one OpenAI-compatible address, here or on a cluster."""
    asked = Door(host, keys, processes, open_=open_)
    chooses = LoadPolicy(load_policy, insist)
    if target is TargetName.KUBERNETES:
        from orchestrator.cli.deploy_kubernetes import Options, deploy_plan
        from profiler.errors import InputError

        if emulate:
            raise InputError(
                "--emulate: engines are emulated on this machine and on Ray clusters only"
            )
        found = deploy_plan(
            plan,
            settings,
            Options(context, kubeconfig, force_conflicts, wait, dry_run, keep, yes, autoscale),
            progress,
            asked,
            chooses,
        )
    elif target is TargetName.RAY:
        from orchestrator.cli import deploy_ray
        from profiler.errors import InputError

        if autoscale:
            raise InputError(NO_AUTOSCALE)
        options = deploy_ray.Options(
            address=address,
            port=port,
            door=asked,
            ship_code=ship_code,
            router_artefact=router_artefact,
            load_policy=chooses,
            emulate=emulate,
            wait_s=wait,
            dry_run=dry_run,
            keep=keep,
            yes=yes,
        )
        found = deploy_ray.deploy_plan(plan, options, progress)
    else:
        found = _deploy_local(
            plan,
            port,
            wait,
            asked,
            chooses,
            dry_run=dry_run,
            keep=keep,
            emulate=emulate,
            autoscale=autoscale,
            yes=yes,
        )
    if found is not None:
        say(found.message or _running(found, target))
        emit(found.model_dump(mode="json"), output, lambda: [status_table(found)])


def _deploy_local(
    plan: Path,
    port: int | None,
    wait: float | None,
    asked: Door,
    chooses: LoadPolicy,
    *,
    dry_run: bool,
    keep: bool,
    emulate: bool,
    autoscale: bool,
    yes: bool,
) -> Status | None:
    from orchestrator.deploy.base import AutoscaleSettings
    from orchestrator.deploy.local import DEFAULT_WAIT_S, deploy_local, local_status, running_plan
    from orchestrator.learned_router import checked_artefact
    from orchestrator.report import plan_changes, router_line
    from placement.plan import Plan
    from profiler import documents
    from profiler.errors import ClusterError

    wanted = chooses.applied(asked.applied(documents.read(plan, Plan), plan.parent))
    artefact = checked_artefact(wanted, plan.parent)
    current = running_plan(wanted.service)
    changes = plan_changes(current, wanted)
    for line in changes:
        say(line)
    now = local_status(wanted.service)
    switches = current is not None and now is not None and now.emulated != emulate
    if switches:
        say(f"engines: {'real' if emulate else 'emulated'} -> {'emulated' if emulate else 'real'}")
    if wanted.router is not None:
        say(f"{router_line(wanted.router)}; from {artefact}")
    if dry_run:
        say("dry run: nothing was changed")
        return None
    replaces = current is not None and (current != wanted or switches)
    if replaces and not confirm(f"Change the running {wanted.service!r}?", yes=yes):
        raise ClusterError("nothing was changed")
    with progress() as show:
        return deploy_local(
            wanted,
            port=port or wanted.targets.local.port,
            wait_s=wait or DEFAULT_WAIT_S,
            on_progress=show,
            keep_on_failure=keep,
            artefact=artefact,
            emulate=emulate,
            autoscale=AutoscaleSettings() if autoscale else None,
        )


def _running(found: Status, target: TargetName) -> str:
    where = "" if target is TargetName.LOCAL else f" --target {target.value}"
    return f"running; stop it with: orchestrator delete {found.name}{where}"


def status(
    name: NameArgument,
    target: TargetOption = TargetName.LOCAL,
    namespace: NamespaceOption = "default",
    context: ContextOption = None,
    kubeconfig: KubeconfigOption = None,
    address: AddressOption = None,
    output: OutputOption = Format.TABLE,
) -> None:
    """Show a deployed service: each group's wanted and ready replicas, address, cost or logs."""
    from profiler.errors import InputError

    if target is TargetName.KUBERNETES:
        from orchestrator.deploy.kube.api import KubeApi
        from orchestrator.deploy.kubernetes import kubernetes_status

        found = kubernetes_status(KubeApi.connect(namespace, context, kubeconfig), name)
        where = f"in the namespace {namespace!r}; name another with --namespace"
    elif target is TargetName.RAY:
        from orchestrator.cli.deploy_ray import service_status

        found, where = service_status(name, address)
    else:
        from orchestrator.deploy.local import local_status

        found, where = local_status(name), "on this machine"
    if found is None:
        raise InputError(f"no service {name!r} runs {where}")
    emit(found.model_dump(mode="json"), output, lambda: [status_table(found)])


def delete(
    name: NameArgument,
    target: TargetOption = TargetName.LOCAL,
    namespace: NamespaceOption = "default",
    context: ContextOption = None,
    kubeconfig: KubeconfigOption = None,
    address: AddressOption = None,
    yes: YesOption = False,
) -> None:
    """Stop a deployed service and everything it started."""
    from profiler.errors import ClusterError

    if target is TargetName.KUBERNETES:
        from orchestrator.cli.deploy_kubernetes import delete_service
        from orchestrator.deploy.kube.api import KubeApi

        delete_service(KubeApi.connect(namespace, context, kubeconfig), name, yes=yes)
        return
    if target is TargetName.RAY:
        from orchestrator.cli import deploy_ray

        deploy_ray.delete_service(name, address, progress, yes=yes)
        return
    from orchestrator.deploy.local import delete_local, local_status

    running = local_status(name) is not None
    if running and not confirm(f"Stop {name!r} and all its engines?", yes=yes):
        raise ClusterError("nothing was changed")
    with progress() as show:
        existed = delete_local(name, show)
    say(f"{name!r} is gone" if existed else f"no service {name!r} runs on this machine")


@contextmanager
def progress() -> Iterator[Progress]:
    """Show how a deployment comes along: a live line on a terminal, else a line per change."""
    from orchestrator.report import status_line

    console = stderr()
    if not console.is_terminal:
        said: set[str] = set()

        def once(status: Status) -> None:
            line = status_line(status)
            if line not in said:
                said.add(line)
                say(line)

        yield once
        return
    with console.status("starting") as spinner:
        yield lambda status: spinner.update(status_line(status))


def status_table(status: Status) -> Table:
    """A pool's groups, under its address; with cost where it is rented, with logs where here."""
    from rich.table import Table

    from orchestrator.report import emulated_mark

    rented = any(g.usd_per_hour is not None for g in status.groups)
    told = any(g.load is not None for g in status.groups)
    table = Table(
        *("group", "model", "GPU", "ready", "state"),
        *(("load",) if told else ()),
        *(("$/h", "$ so far") if rented else ("log",)),
        box=None,
        pad_edge=False,
        title=f"{status.name}: {status.state}{emulated_mark(status)} at {status.url}"
        + (", autoscaled" if status.autoscaled else ""),
        caption=status.router or None,
        caption_justify="left",
        title_justify="left",
    )
    for g in status.groups:
        cost = (usd(g.usd_per_hour), usd(g.usd_so_far))
        last = cost if rented else (g.log or "-",)
        load = (("-" if g.load is None else f"{g.load:.0%}"),) if told else ()
        table.add_row(g.name, g.model, g.gpu, _replicas(g), g.state, *load, *last)
    return table


def _replicas(group: GroupStatus) -> str:
    """Ready of wanted, and what else there is to say of them."""
    more = [] if group.planned is None else [f"planned {group.planned}"]
    more += [f"{group.draining} draining"] if group.draining else []
    return f"{group.ready}/{group.wanted}" + (f" ({', '.join(more)})" if more else "")


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    app.command()(deploy)
    app.command()(status)
    app.command()(delete)

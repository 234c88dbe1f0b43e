"""`keys`: make, list, revoke and rotate API keys."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from orchestrator.cli.output import Format, OutputOption, YesOption, confirm, emit, say

if TYPE_CHECKING:
    from rich.table import Table

    from serve_apps.guard.keys import KeyEntry

FileOption = Annotated[Path, typer.Option("--file", "-f", help="The keys file.")]
KeyArgument = Annotated[str, typer.Argument(help="The key's public id, see `keys list`.")]
KEYS = Path("keys.yaml")
HOURS_PER_DAY = 24


def create(
    tenant: Annotated[str, typer.Option(help="Whose key it is: a label in metrics.")],
    file: FileOption = KEYS,
    admin: Annotated[bool, typer.Option("--admin", help="For the operator's calls.")] = False,
    model: Annotated[
        list[str] | None, typer.Option(help="May be asked for; repeat it. All otherwise.")
    ] = None,
    priority: Annotated[int, typer.Option(help="Higher is served first and shed last.")] = 0,
    weight: Annotated[float, typer.Option(help="Fair share among tenants.")] = 1.0,
    requests_per_minute: Annotated[int | None, typer.Option(min=1)] = None,
    tokens_per_minute: Annotated[int | None, typer.Option(min=1, help="In and out.")] = None,
    budget_usd_per_day: Annotated[float | None, typer.Option(help="A day of UTC.")] = None,
    budget_usd_per_month: Annotated[float | None, typer.Option(help="A calendar month.")] = None,
    expires_in_days: Annotated[float | None, typer.Option(min=0)] = None,
    note: Annotated[str | None, typer.Option(help="For yourself.")] = None,
) -> None:
    """Make a key: shown once on standard output, kept as a hash in the keys file."""
    import datetime as dt

    from serve_apps.guard import keys_file
    from serve_apps.guard.keys import utc_now

    expires = None
    if expires_in_days is not None:
        expires = utc_now() + dt.timedelta(days=expires_in_days)
    given: dict[str, Any] = {
        "tenant": tenant,
        "admin": admin,
        "models": tuple(model) if model else None,
        "priority": priority,
        "weight": weight,
        "requests_per_minute": requests_per_minute,
        "tokens_per_minute": tokens_per_minute,
        "budget_usd_per_day": budget_usd_per_day,
        "budget_usd_per_month": budget_usd_per_month,
        "created": utc_now(),
        "expires": expires,
        "note": note,
    }
    key, entry = keys_file.create(file, lambda i, h: _entry({"id": i, "hash": h, **given}))
    say(f"key {entry.id} of {tenant} added to {file}; this is the only time it is shown:")
    sys.stdout.write(key + "\n")


def list_keys(file: FileOption = KEYS, output: OutputOption = Format.TABLE) -> None:
    """Show the keys: ids, holders and limits, no secrets."""
    from serve_apps.guard.keys_file import load_keys

    found = load_keys(file).keys
    secret = {"hash", "previous_hash"}
    data = [e.model_dump(mode="json", exclude=secret, exclude_none=True) for e in found]
    emit(data, output, lambda: [_table(found)])


def revoke(key: KeyArgument, file: FileOption = KEYS, yes: YesOption = False) -> None:
    """Disable a key, within a second wherever the file is in use."""
    from profiler.errors import InputError
    from serve_apps.guard import keys_file

    if not confirm(f"Revoke key {key!r}? Its requests are refused from then on.", yes=yes):
        raise InputError("nothing was changed")
    entry = keys_file.revoke(file, key)
    say(f"key {entry.id} of {entry.tenant} is revoked")


def rotate(
    key: KeyArgument,
    file: FileOption = KEYS,
    grace_hours: Annotated[
        float, typer.Option(min=0, help="How long the old secret is still good.")
    ] = float(HOURS_PER_DAY),
) -> None:
    """Give a key a new secret, shown once. Id, limits and budgets stay."""
    import datetime as dt

    from serve_apps.guard import keys_file

    new = keys_file.rotate(file, key, dt.timedelta(hours=grace_hours))
    say(f"key {key} has a new secret; the old one is good for {grace_hours:g} hours more:")
    sys.stdout.write(new + "\n")


def _entry(data: dict[str, Any]) -> KeyEntry:
    """A valid entry, or what is wrong in the words of the options."""
    from pydantic import ValidationError

    from profiler.errors import InputError
    from serve_apps.guard.keys import KeyEntry

    try:
        return KeyEntry.model_validate(data)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        option = str(first["loc"][0]).replace("_", "-") if first["loc"] else "tenant"
        raise InputError(f"--{option}: found {first['input']!r}: {first['msg']}") from None


def _table(entries: tuple[KeyEntry, ...]) -> Table:
    from rich.table import Table

    table = Table("id", "tenant", "for", "models", box=None, pad_edge=False)
    for header in ("requests/min", "tokens/min", "$/day", "$/month"):
        table.add_column(header, justify="right")
    table.add_column("until")
    for e in entries:
        limits = (e.requests_per_minute, e.tokens_per_minute)
        budgets = (e.budget_usd_per_day, e.budget_usd_per_month)
        table.add_row(
            e.id,
            e.tenant,
            "admin" if e.admin else "requests",
            "all" if e.models is None else ", ".join(e.models),
            *("-" if n is None else f"{n:,}" for n in limits),
            *("-" if usd is None else f"{usd:,.2f}" for usd in budgets),
            _until(e),
        )
    return table


def _until(entry: KeyEntry) -> str:
    if entry.disabled:
        return "revoked"
    return "-" if entry.expires is None else f"{entry.expires:%Y-%m-%d %H:%M} UTC"


def add_to(app: typer.Typer) -> None:
    """Register the group."""
    group = typer.Typer(help="API keys: kept as hashes, shown once.", no_args_is_help=True)
    group.command()(create)
    group.command("list")(list_keys)
    group.command()(revoke)
    group.command()(rotate)
    app.add_typer(group, name="keys")

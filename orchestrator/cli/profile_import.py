"""`profile import`: profiles from the results of other tools."""

from __future__ import annotations

import enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from orchestrator.cli.catalog import FileOption
from orchestrator.cli.output import Format, OutputOption, YesOption, emit, say

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import RenderableType

    from profiler.core import Profile
    from profiler.importers import Setting


class FileFormat(enum.StrEnum):
    """What `--format` takes."""

    MELANGE = "melange"
    AIBRIX = "aibrix"
    GUIDELLM = "guidellm"
    VLLM = "vllm"


def import_(
    files: Annotated[list[Path], typer.Argument(help="Result files of one tool.")],
    format: Annotated[FileFormat, typer.Option(help="Which tool wrote them.")],  # noqa: A002
    model: Annotated[str, typer.Option(help="Catalog name, hub name, or a config.json.")],
    gpu: Annotated[
        list[str] | None,
        typer.Option(help="GPU type, or NAME_IN_FILE=TYPE; repeatable."),
    ] = None,
    tensor_parallel: Annotated[int, typer.Option("--tensor-parallel", "--tp", min=1)] = 1,
    ttft: Annotated[
        float | None, typer.Option(min=0.001, help="TTFT limit the rates kept, seconds.")
    ] = None,
    tpot: Annotated[
        float | None, typer.Option(min=0.0001, help="TPOT limit the rates kept, seconds.")
    ] = None,
    attainment: Annotated[
        float | None, typer.Option(min=0.01, max=0.9999, help="Share of requests that kept them.")
    ] = None,
    input_tokens: Annotated[
        str | None, typer.Option(help="Melange: input sizes or bucket edges, such as 25,100,500.")
    ] = None,
    output_tokens: Annotated[
        str | None, typer.Option(help="Melange: output sizes or bucket edges.")
    ] = None,
    max_num_seqs: Annotated[int | None, typer.Option(min=1, help="The engine's limit.")] = None,
    max_num_batched_tokens: Annotated[
        int | None, typer.Option(min=1, help="The engine's limit.")
    ] = None,
    kv_capacity_tokens: Annotated[
        int | None, typer.Option(min=16, help="The engine's KV cache, as its log says.")
    ] = None,
    catalog: FileOption = None,
    save: Annotated[
        Path | None,
        typer.Option("--save", "-s", help="Write here; a directory when there are several."),
    ] = None,
    output: OutputOption = Format.TABLE,
    yes: YesOption = False,
) -> None:
    """Read profiles from results of Melange, AIBrix, GuideLLM or `vllm bench serve`."""
    from profiler.importers import import_profiles

    setting = _setting(
        model,
        gpu or [],
        catalog or [],
        {"max_num_seqs": max_num_seqs, "max_num_batched_tokens": max_num_batched_tokens},
        tensor_parallel=tensor_parallel,
        kv_capacity_tokens=kv_capacity_tokens,
        ttft_s=ttft,
        tpot_s=tpot,
        attainment=attainment,
        input_tokens=_numbers("--input-tokens", input_tokens),
        output_tokens=_numbers("--output-tokens", output_tokens),
    )
    found = import_profiles(files, format.value, setting)
    if save is not None:
        _save(found, save, yes=yes)
    data = [p.model_dump(mode="json", exclude_none=True) for p in found]
    emit(data if len(data) > 1 else data[0], output, lambda: _tables(found))


def _setting(
    model: str,
    gpus: list[str],
    catalogs: list[Path],
    limits: dict[str, int | None],
    **said: Any,
) -> Setting:
    import datetime as dt

    from profiler.catalog import load_catalog, resolve_model
    from profiler.core import EngineOptions
    from profiler.importers import Setting
    from profiler.roofline import default_engine

    catalog = load_catalog(*catalogs)
    pairs = [name.partition("=") for name in gpus]
    names = {left.strip(): (right or left).strip() for left, _, right in pairs}
    given = {name: value for name, value in limits.items() if value is not None}
    engine: EngineOptions | None = None
    if given:
        types = [catalog.gpu(name) for name in names.values()]
        base = default_engine(types[0]) if types else EngineOptions()
        engine = base.model_copy(update=given)
    return Setting(
        catalog=catalog,
        model=resolve_model(catalog, model),
        gpus=names,
        engine=engine,
        read_on=dt.datetime.now(tz=dt.UTC).date(),
        **said,
    )


def _numbers(flag: str, text: str | None) -> tuple[float, ...]:
    from profiler.errors import InputError

    try:
        return tuple(float(part) for part in text.split(",")) if text else ()
    except ValueError:
        raise InputError(f"{flag}: found {text!r}, expected numbers such as 25,100,500") from None


def _save(found: Sequence[Profile], save: Path, *, yes: bool) -> None:
    from orchestrator.cli.output import refuse_to_overwrite
    from profiler import documents
    from profiler.errors import InputError

    many = len(found) > 1
    if many and save.exists() and not save.is_dir():
        raise InputError(f"{save}: is a file, expected a directory for {len(found)} profiles")
    targets = [save / _file_name(p) if many or save.is_dir() else save for p in found]
    if many:
        save.mkdir(parents=True, exist_ok=True)
    for target in targets:
        refuse_to_overwrite(target, yes=yes)
    for profile, target in zip(found, targets, strict=True):
        documents.write(target, documents.dump(profile))
        say(f"wrote {target}; name it under `profiles:` in a service file")


def _file_name(profile: Profile) -> str:
    config = profile.config
    return f"{config.model.replace('/', '-')}-{config.gpu}-tp{config.tensor_parallel}.yaml"


def _tables(found: Sequence[Profile]) -> list[RenderableType]:
    from rich.table import Table

    from orchestrator.profiling import describe

    tables: list[RenderableType] = []
    for profile in found:
        table = Table.grid(padding=(0, 2))
        for label, text in describe(profile):
            table.add_row(label, text)
        tables += [*([""] if tables else []), table]
    return tables


def add_to(group: typer.Typer) -> None:
    """Register the command."""
    group.command("import")(import_)

"""From names, or a service file, to a table of tokens per dollar."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from orchestrator.loading import LoadedService, sizes_of
from orchestrator.planning import profile_for
from orchestrator.service import Estimates, GpuEntry, ModelEntry
from profiler import documents
from profiler.catalog import Catalog, resolve_model
from profiler.core import GpuType, Market, ModelSpec, Profile, Slo
from profiler.errors import InputError
from profiler.roofline import DoesNotFit
from profiler.value import DEFAULT_SIZES, Offer, Size, ValueTable, value_table


@dataclass(frozen=True)
class Question:
    """Which GPU types are worth their price for which models, inside which SLO."""

    models: tuple[tuple[ModelEntry, ModelSpec], ...]
    gpus: tuple[tuple[GpuEntry, GpuType], ...]
    profiles: Mapping[str, Profile]
    slo: Slo
    markets: tuple[Market, ...]
    sizes: tuple[Size, ...] = DEFAULT_SIZES
    estimates: Estimates = "roofline"


@dataclass(frozen=True)
class Valuation:
    """The answer, with the profiles and GPU types that it rests on."""

    table: ValueTable
    profiles: tuple[Profile, ...]
    gpus: tuple[GpuType, ...]


def valuation(question: Question) -> Valuation:
    """Tokens per dollar of every model on every GPU type.

    Raises:
        InputError: no GPU type is sold in the markets asked for.
    """
    offers, misfits = [], {}
    for entry, spec in question.models:
        for rented, gpu in question.gpus:
            fits = list(_profiles(question, entry, spec, gpu))
            profiles = [p for p in fits if isinstance(p, Profile)]
            refused = [p for p in fits if isinstance(p, DoesNotFit)]
            if not profiles and refused:
                misfits[spec.name, gpu.name] = refused[-1].reason
            offers += [o for p in profiles for o in _offers(p, rented, gpu, question.markets)]
    if not offers:
        raise InputError(
            "nothing can be compared: "
            + ("; ".join(misfits.values()) or f"no price in {' or '.join(question.markets)}")
        )
    table = value_table(offers, question.slo, question.sizes, misfits)
    used = {(c.model, c.gpu, c.tensor_parallel) for c in table.cells if c.feasible}
    return Valuation(
        table,
        tuple(p for p in dict.fromkeys(o.profile for o in offers) if _identity(p) in used),
        tuple(gpu for _, gpu in question.gpus),
    )


def of_service(
    loaded: LoadedService, slo: Slo, markets: tuple[Market, ...], sizes: tuple[Size, ...]
) -> Question:
    """What a service file names, at its prices."""
    return Question(
        loaded.models, loaded.gpus, loaded.profiles, slo, markets, sizes, loaded.service.estimates
    )


def of_names(
    catalog: Catalog,
    models: Sequence[str],
    gpus: Sequence[str],
    profiles: Sequence[Path],
    slo: Slo,
    markets: tuple[Market, ...],
    sizes: tuple[Size, ...],
) -> Question:
    """Models and GPU types by name; ``all`` is every type but the CPU.

    Raises:
        InputError: a name that is not known, or a profile that cannot be read.
    """
    specs = tuple((ModelEntry(model=m), resolve_model(catalog, m)) for m in models)
    everything = [g for g in catalog.gpus.values() if g.vendor != "cpu"]
    types = everything if list(gpus) == ["all"] else [catalog.gpu(g) for g in gpus]
    known = [documents.read(path, Profile) for path in profiles]
    return Question(
        specs,
        tuple((GpuEntry(type=g.name), g) for g in types),
        {p.config.key: p for p in known},
        slo,
        markets,
        sizes,
    )


def _profiles(
    question: Question, entry: ModelEntry, spec: ModelSpec, gpu: GpuType
) -> Iterator[Profile | DoesNotFit]:
    for size in sizes_of(entry, spec, gpu):
        yield profile_for(question.profiles, entry, spec, gpu, size, question.estimates)


def _offers(
    profile: Profile, rented: GpuEntry, gpu: GpuType, markets: Sequence[Market]
) -> Iterator[Offer]:
    """A replica in each market it is sold in; a price the user set counts in its own market."""
    for market in markets:
        own = rented.usd_per_hour if rented.market == market else None
        price = own or gpu.price.usd_per_hour(market)
        if price is not None:
            yield Offer(profile, market, profile.config.tensor_parallel * price)


def _identity(profile: Profile) -> tuple[str, str, int]:
    return profile.config.model, profile.config.gpu, profile.config.tensor_parallel

"""Feature extractors by name: those of this package, and those that others install.

A third party names its class in the entry point group ``orchestrator.router.features``; a name
of ours cannot be taken. Names with ``+`` between them stand side by side: ``text+sentence``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from serve_apps.router import plugins
from serve_apps.router.estimates import FeatureExtractor

GROUP = "orchestrator.router.features"
BUILT_IN = {
    "hand": "serve_apps.router.features.hand:HandFeatures",
    "text": "serve_apps.router.features.text:TextFeatures",
    "static": "serve_apps.router.features.static:StaticEmbeddings",
    "model2vec": "serve_apps.router.features.static:Model2VecEmbeddings",
    "sentence": "serve_apps.router.features.sentence:SentenceEmbeddings",
    "hidden": "serve_apps.router.features.hidden:HiddenStates",
    "joined": "serve_apps.router.features.joined:JoinedFeatures",
}


JOIN = "+"


def feature_names() -> list[str]:
    """Every extractor that can be named, sorted."""
    return plugins.names(GROUP, BUILT_IN)


def feature_class(name: str) -> Any:
    """The class behind a name; its constructor takes the extractor's settings.

    Raises:
        UnknownNameError: no such extractor.
        InputError: it does not load, for want of a package or by a mistake of its author.
    """
    if JOIN in name:
        for part in name.split(JOIN):
            feature_class(part)
        name = "joined"
    return plugins.load("feature extractor", name, GROUP, BUILT_IN)


def build(name: str, settings: Mapping[str, Any]) -> FeatureExtractor:
    """An extractor with these settings, not fitted.

    Raises:
        UnknownNameError, InputError: as `feature_class`.
    """
    parts = {"parts": name} if JOIN in name else {}
    made: FeatureExtractor = feature_class(name)(**parts, **settings)
    return made

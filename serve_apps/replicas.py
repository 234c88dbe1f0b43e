"""One running engine, as discovery finds it and the dispatcher counts it."""

from serve_apps.flow.nouns import Replica

__all__ = ["Replica"]

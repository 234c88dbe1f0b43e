"""Label values that cannot run away: only names we were told of, and only so many of them."""

from __future__ import annotations

from collections.abc import Iterable

from serve_apps.seeing.definitions import NONE, OTHER


class Names:
    """Maps what a record says to a label value; unknown names are all "other"."""

    def __init__(self, most: int, known: Iterable[str] = ()) -> None:
        """At most ``most`` names beside "none" and "other", over all calls of `know`."""
        self._most = most
        self._values = {"": NONE, NONE: NONE}
        self.know(known)

    def know(self, names: Iterable[str]) -> None:
        """Names that are values of their own from now on; those before stay."""
        for name in names:
            if len(self._values) - 2 >= self._most:
                return
            self._values.setdefault(name, name)

    def __getitem__(self, name: str) -> str:
        return self._values.get(name, OTHER)

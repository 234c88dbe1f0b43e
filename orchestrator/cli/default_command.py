"""A command that has subcommands too: `plan SERVICE` beside `plan pareto` and `plan diff`.

The first argument decides: a subcommand's name is that subcommand; anything else belongs to the
default one, which appears under the group's own name. A file that has a subcommand's name is
reached as ``./pareto``.
"""

from __future__ import annotations

from typing import Any

from typer.core import TyperCommand, TyperGroup

DEFAULT = "default"


class WithDefault(TyperGroup):
    """Runs the command registered as `DEFAULT` unless a subcommand is named first."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put the default's name before arguments that name no subcommand."""
        if not args or args[0] not in self.commands:
            args = [DEFAULT, *args]
        return super().parse_args(ctx, args)


class AsItsGroup(TyperCommand):
    """Shows the group's name in usage and errors, not its own."""

    def make_context(
        self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any
    ) -> Any:
        """A context in the place of the group's."""
        if parent is not None:
            info_name, parent = parent.info_name, parent.parent
        return super().make_context(info_name, args, parent=parent, **extra)

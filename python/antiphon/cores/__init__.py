"""Servers on all cores: `antiphon.serve` and `antiphon --workers N`. `docs/servers.md` tells how to use them."""

from antiphon.cores.serve import serve

__all__ = ["serve"]

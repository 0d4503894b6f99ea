"""Which served model gets the next request: smooth weighted round robin, so that a count from outside tells the shares.

The endpoints of each platform keep one. Of any hundred requests in a row each model gets exactly its percentage, spread
evenly (the algorithm of nginx's upstream module, commit 52327e0627f4 "Upstream: smooth weighted round-robin
balancing"). Neither platform publishes how it draws; both promise the shares only.
"""

from __future__ import annotations

from collections.abc import Mapping


class TrafficSplit:
    """Draws names by their percentages.

    Args:
        shares: percentage by name; those with 0 are never drawn.
    """

    def __init__(self, shares: Mapping[str, int]) -> None:
        self.shares = dict(shares)
        self._owed = dict.fromkeys(self.shares, 0)

    def next(self) -> str | None:
        """The name that gets the next request; None when nobody has a share."""
        drawn = [name for name, share in self.shares.items() if share > 0]
        if not drawn:
            return None
        for name in drawn:
            self._owed[name] += self.shares[name]
        chosen = max(drawn, key=lambda name: self._owed[name])
        self._owed[chosen] -= sum(self.shares[name] for name in drawn)
        return chosen

    def change(self, shares: Mapping[str, int]) -> None:
        """Other percentages from now on; the same ones change nothing."""
        if dict(shares) != self.shares:
            self.shares = dict(shares)
            self._owed = dict.fromkeys(self.shares, 0)

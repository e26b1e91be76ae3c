"""A process of its own that pays over a ledger's file; its arguments are PATH SOURCE DESTINATION FIRST COUNT.

Submits transfers SOURCE-FIRST, SOURCE-FIRST+1, … of 0.01 each, and prints a line after each.
"""

from __future__ import annotations

import sys
from decimal import Decimal

from settlement_core.engines.simulated import LedgerUnavailable, Transfer, open_ledger


def main() -> None:
    """Submit every transfer until the ledger takes it."""
    path, source, destination, first, count = sys.argv[1:]
    with open_ledger(path) as ledger:
        for number in range(int(first), int(first) + int(count)):
            transfer = Transfer(
                tx_id=f"{source}-{number}", source=source, destination=destination, amount=Decimal("0.01")
            )
            while True:
                try:
                    ledger.submit(transfer)
                except LedgerUnavailable:
                    continue
                break
            print(number, flush=True)  # noqa: T201


if __name__ == "__main__":
    main()

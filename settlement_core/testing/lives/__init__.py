"""Many lives: the real core between simulated peers, where everything that may go wrong does, and no money may be lost.

A `System` runs one `Life` after another; only stores, ledger, connectors' books and messages on their way survive.
`python -m settlement_core.testing.lives` draws lives for as long as it is told. A life that does harm is printed as
Python, so that it can become a test, together with its story.
"""

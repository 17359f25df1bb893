"""Once-for-all acoustic event classification: one supernet, a network for every budget."""

__version__ = "0.1.0"

"""cexdex: the ground every stage stands on, and the one roof (`cexdex.cli`)."""

__version__ = "0.1.0"

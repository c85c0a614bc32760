"""Variants: a bundle's graphs rewritten for one provider, beside the graphs as exported.

A variant computes what its base computes, up to the order of sums. Large weights stay in the base's
data file, so a variant is a small file of its own. `make.py` says which graphs get which.

python -m diffbir_export.variants BUNDLE    adds them to a bundle that has none
"""

from .make import KINDS, PROVIDERS, write

__all__ = ["KINDS", "PROVIDERS", "write"]

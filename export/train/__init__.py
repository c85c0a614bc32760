"""Trains the small DiffBIR of the demo bundle from nothing: see README.md beside this file."""

import os

# Read once, when torch is loaded: threads that wait by spinning make training ten times slower as
# soon as another program wants one of the cores.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

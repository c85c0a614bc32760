"""Trains the small DiffBIR of the demo bundle from nothing: see README.md beside this file."""

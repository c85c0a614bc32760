"""The networks, in forms that export with dynamic batch, height and width.

Each module keeps or maps to the parameter names of the official checkpoints; `keys.py` holds the
maps for those whose library names differ.
"""

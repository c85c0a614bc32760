"""int8: a graph's convolutions and matrix products in 8 bits, for the CPU provider, if asked for.

What is quantised is chosen layer by layer: `sensitivity.py` measures what each layer alone costs of
the output, `choose.py` takes those that cost least for what they save until the loss is reached.

python -m diffbir_export.quantize BUNDLE --pictures DIR    adds the variants to a bundle
"""

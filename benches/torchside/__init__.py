"""DiffBIR in PyTorch, to be timed beside the program."""

"""Errors a user can mend, with the exit code each kind ends the program with."""

import sys


class ExportError(Exception):
    """One line that says what was wrong, where, and what was expected."""

    exit_code = 1


class VerificationError(ExportError):
    """A graph in ONNX Runtime does not agree with PyTorch."""

    exit_code = 1


class UsageError(ExportError):
    """The command line is wrong: a bad value, a missing file, a role given twice."""

    exit_code = 2


class InputError(ExportError):
    """A configuration or checkpoint file has the wrong content."""

    exit_code = 3


def tell(error: ExportError | OSError) -> int:
    """Prints a command's error; returns the exit code that it ends with."""
    if isinstance(error, ExportError):
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    print(f"error: {error.filename or ''}: {error.strerror or error}", file=sys.stderr)
    return 1

"""Exceptions: one class for each code of the library."""

from __future__ import annotations

import enum


class Code(enum.IntEnum):
    """Who can mend an error."""

    INPUT = 1
    OPTION = 2
    CONFIG = 3
    BUNDLE = 4
    RUNTIME = 5
    RESOURCES = 6
    CANCELLED = 7
    INTERNAL = 8
    INVALID_ARGUMENT = 9
    INVALID_STATE = 10
    ABI = 11
    BUSY = 12
    PANIC = 13
    NOT_FINITE = 14


class DiffbirError(Exception):
    """What went wrong; `str()` of it is one line that says where and what to do.

    Attributes:
        code: the error's `Code`; a plain int where the library is newer than this package; None
            where the library itself is missing.
        cause: the cause alone, such as the operating system's message; None where there is none.

    """

    code: int | None = None
    cause: str | None

    def __init__(self, message: str, *, cause: str | None = None, code: int | None = None) -> None:
        super().__init__(message)
        self.cause = cause
        if code is not None:
            self.code = code


class LibraryNotFoundError(DiffbirError):
    """The native library is missing or cannot be loaded."""


class InputError(DiffbirError):
    """A picture that cannot be read, or a result that cannot be written."""

    code = Code.INPUT


class OptionError(DiffbirError):
    """An option that is not accepted or not served by the bundle."""

    code = Code.OPTION


class ConfigError(DiffbirError):
    """A configuration that is not valid."""

    code = Code.CONFIG


class BundleError(DiffbirError):
    """A bundle that is damaged, incomplete or of another format."""

    code = Code.BUNDLE


class RuntimeUnavailableError(DiffbirError):
    """ONNX Runtime or an execution provider is missing or failed."""

    code = Code.RUNTIME


class ResourcesError(DiffbirError):
    """The work does not fit the machine's memory."""

    code = Code.RESOURCES


class NotFiniteError(DiffbirError):
    """Values became infinite or NaN: an option out of range, or an overflow in a graph."""

    code = Code.NOT_FINITE


class CancelledError(DiffbirError):
    """Somebody asked to stop."""

    code = Code.CANCELLED


class InternalError(DiffbirError):
    """A defect of the library. The engine may go on being used."""

    code = Code.INTERNAL


class PanicError(InternalError):
    """A defect of the library: it panicked. The engine may go on being used."""

    code = Code.PANIC


class InvalidArgumentError(DiffbirError, ValueError):
    """An argument that can never be right, such as an array of the wrong shape."""

    code = Code.INVALID_ARGUMENT


class InvalidStateError(DiffbirError):
    """A call that does not fit the object's state, such as using a closed engine."""

    code = Code.INVALID_STATE


class AbiError(DiffbirError):
    """The native library is older than this package needs."""

    code = Code.ABI


class BusyError(DiffbirError):
    """The engine's queue is full."""

    code = Code.BUSY


_CLASSES: dict[int, type[DiffbirError]] = {
    kind.code: kind
    for kind in (
        InputError,
        OptionError,
        ConfigError,
        BundleError,
        RuntimeUnavailableError,
        ResourcesError,
        NotFiniteError,
        CancelledError,
        InternalError,
        PanicError,
        InvalidArgumentError,
        InvalidStateError,
        AbiError,
        BusyError,
    )
    if kind.code is not None
}


def of_code(code: int, message: str, cause: str | None) -> DiffbirError:
    """Return the exception for an error of the library."""
    kind = _CLASSES.get(code)
    if kind is None:
        return DiffbirError(message, cause=cause, code=code)
    return kind(message, cause=cause)

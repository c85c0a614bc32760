"""The native library: finding and loading it, its structures and prototypes.

Follows `include/diffbir.h`, version 1 of its ABI.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import functools
import json
import os
import sys
import weakref
from collections.abc import Callable, Iterable
from ctypes import POINTER, c_bool, c_char_p, c_double, c_int, c_int64, c_size_t, c_uint32, c_void_p
from pathlib import Path
from typing import Any

from ._errors import InvalidArgumentError, LibraryNotFoundError, of_code

ABI_VERSION = 1
FOREVER = 0xFFFF_FFFF
VARIABLE = "DIFFBIR_LIBRARY"
NAME = {"darwin": "libdiffbir.dylib", "win32": "diffbir.dll"}.get(sys.platform, "libdiffbir.so")


class EngineOptions(ctypes.Structure):
    """`diffbir_engine_options`."""

    _fields_ = (
        ("struct_size", c_size_t),
        ("config_file", c_char_p),
        ("config_yaml", c_char_p),
        ("bundle", c_char_p),
        ("settings", POINTER(c_char_p)),
        ("setting_count", c_size_t),
        ("runtime_library", c_char_p),
        ("verify", c_uint32),
        ("queue_limit", c_uint32),
        ("log", c_void_p),
        ("log_data", c_void_p),
        ("log_free", c_void_p),
    )


class Pixels(ctypes.Structure):
    """`diffbir_pixels`."""

    _fields_ = (
        ("struct_size", c_size_t),
        ("data", c_void_p),
        ("size", c_size_t),
        ("width", c_uint32),
        ("height", c_uint32),
        ("value_type", c_uint32),
        ("channels", c_uint32),
        ("layout", c_uint32),
        ("reserved", c_uint32),
        ("row_stride", c_size_t),
        ("plane_stride", c_size_t),
    )


class EncodeOptions(ctypes.Structure):
    """`diffbir_encode_options`."""

    _fields_ = (
        ("struct_size", c_size_t),
        ("format", c_char_p),
        ("quality", c_uint32),
        ("metadata", c_uint32),
        ("overwrite", c_uint32),
        ("reserved", c_uint32),
    )


class Options(ctypes.Structure):
    """`diffbir_options`."""

    _fields_ = (
        ("struct_size", c_size_t),
        ("task", c_char_p),
        ("sampler", c_char_p),
        ("prompt", c_char_p),
        ("negative_prompt", c_char_p),
        ("upscale", c_double),
        ("cfg_scale", c_double),
        ("strength", c_double),
        ("guidance_scale", c_double),
        ("seed", c_int64),
        ("steps", c_uint32),
        ("samples", c_uint32),
        ("settings", POINTER(c_char_p)),
        ("setting_count", c_size_t),
    )


class Progress(ctypes.Structure):
    """`diffbir_progress`."""

    _fields_ = (
        ("struct_size", c_size_t),
        ("event", c_uint32),
        ("step", c_uint32),
        ("total", c_uint32),
        ("tile", c_uint32),
        ("tiles", c_uint32),
        ("first_sample", c_uint32),
        ("sample_count", c_uint32),
        ("stage", c_char_p),
        ("seconds", c_double),
    )


LogFn = ctypes.CFUNCTYPE(None, c_uint32, c_char_p, c_void_p)
ProgressFn = ctypes.CFUNCTYPE(c_int, POINTER(Progress), c_void_p)
FreeFn = ctypes.CFUNCTYPE(None, c_void_p)

_INITS = {
    EngineOptions: "diffbir_engine_options_init",
    Options: "diffbir_options_init",
    Pixels: "diffbir_pixels_init",
    EncodeOptions: "diffbir_encode_options_init",
}

# Functions that return an error, with their parameters.
_FALLIBLE: dict[str, tuple[Any, ...]] = {
    "abi_check": (c_uint32,),
    "cancel_new": (POINTER(c_void_p),),
    "cancel_trigger": (c_void_p,),
    "engine_new": (POINTER(EngineOptions), POINTER(c_void_p)),
    "engine_bundle": (c_void_p, POINTER(c_void_p)),
    "engine_runtime": (c_void_p, POINTER(c_void_p)),
    "engine_configuration": (c_void_p, POINTER(c_void_p)),
    "image_copy": (c_void_p, POINTER(Pixels)),
    "image_encode": (c_void_p, POINTER(EncodeOptions), POINTER(c_void_p), POINTER(c_size_t)),
    "image_write": (c_void_p, c_char_p, POINTER(EncodeOptions)),
    "request_new": (c_void_p, POINTER(c_void_p)),
    "request_set_file": (c_void_p, c_char_p),
    "request_set_bytes": (c_void_p, c_char_p, c_size_t),
    "request_set_pixels": (c_void_p, POINTER(Pixels)),
    "request_set_options": (c_void_p, POINTER(Options)),
    "request_set_progress": (c_void_p, ProgressFn, c_void_p, FreeFn),
    "request_set_cancel": (c_void_p, c_void_p),
    "request_submit": (c_void_p,),
    "request_stop": (c_void_p,),
    "request_poll": (c_void_p, POINTER(c_bool)),
    "request_wait": (c_void_p, c_uint32, POINTER(c_bool)),
    "request_image": (c_void_p, c_size_t, POINTER(c_void_p)),
    "request_provenance": (c_void_p, POINTER(c_void_p)),
}

# Functions that cannot fail: what they return, and their parameters.
_PLAIN: dict[str, tuple[Any, ...]] = {
    "cancel_is_triggered": (c_bool, c_void_p),
    "cancel_free": (None, c_void_p),
    "engine_free": (None, c_void_p),
    "error_code": (c_int, c_void_p),
    "error_message": (c_char_p, c_void_p),
    "error_cause": (c_char_p, c_void_p),
    "error_free": (None, c_void_p),
    "image_width": (c_uint32, c_void_p),
    "image_height": (c_uint32, c_void_p),
    "image_has_alpha": (c_bool, c_void_p),
    "image_data": (c_void_p, c_void_p),
    "image_free": (None, c_void_p),
    "abi_version": (c_uint32,),
    "version": (c_char_p,),
    "build_info": (c_char_p,),
    "live_handles": (c_size_t,),
    "request_free": (None, c_void_p),
    "request_sample_count": (c_size_t, c_void_p),
    "string_free": (None, c_void_p),
    "bytes_free": (None, c_void_p, c_size_t),
}


def candidates() -> list[str]:
    """Return the places where the library may be: the first that is there is taken."""
    named = os.environ.get(VARIABLE)
    if named:
        return [named]
    found = []
    packaged = Path(__file__).resolve().parent / NAME
    if packaged.is_file():
        found.append(str(packaged))
    system = ctypes.util.find_library("diffbir")
    if system:
        found.append(system)
    return found


@functools.cache
def load() -> ctypes.CDLL:
    """Load the library, once per process.

    Raises:
        LibraryNotFoundError: there is none, or it cannot be loaded.
        AbiError: it is older than this package.

    """
    places = candidates()
    if not places:
        raise LibraryNotFoundError(
            f"{NAME} was not found: it is neither beside the package nor among the system's "
            f"libraries; set {VARIABLE} to its path"
        )
    try:
        library = ctypes.CDLL(places[0])
        _declare(library)
    except (OSError, AttributeError) as error:
        message = f"{places[0]} cannot be loaded as the diffbir library: {error}"
        raise LibraryNotFoundError(message, cause=str(error)) from error
    library.diffbir_abi_check(ABI_VERSION)
    return library


def _declare(library: ctypes.CDLL) -> None:
    for name, (result, *parameters) in _PLAIN.items():
        function = getattr(library, f"diffbir_{name}")
        function.restype, function.argtypes = result, parameters
    for name, parameters in _FALLIBLE.items():
        function = getattr(library, f"diffbir_{name}")
        function.restype, function.argtypes = c_void_p, parameters
        function.errcheck = functools.partial(_raise, library)
    for structure, name in _INITS.items():
        function = getattr(library, name)
        function.restype, function.argtypes = None, (POINTER(structure), c_size_t)


def _raise(library: ctypes.CDLL, error: int | None, _function: Any, _arguments: Any) -> None:
    if not error:
        return
    code = library.diffbir_error_code(error)
    message = library.diffbir_error_message(error) or b""
    cause = library.diffbir_error_cause(error)
    library.diffbir_error_free(error)
    said = cause.decode("utf-8", "replace") if cause is not None else None
    raise of_code(code, message.decode("utf-8", "replace"), said)


def filled(structure: type[Any]) -> Any:
    """Return a structure with the library's defaults."""
    value = structure()
    getattr(load(), _INITS[structure])(ctypes.byref(value), ctypes.sizeof(value))
    return value


class Handle:
    """A handle of the library's, freed when nothing here needs it any more."""

    def __init__(self, kind: str, pointer: int) -> None:
        self.pointer = pointer
        free = getattr(load(), f"diffbir_{kind}_free")
        # Not at exit: the process's memory goes as a whole, and others may still look at pictures.
        weakref.finalize(self, free, pointer).atexit = False


def new(kind: str, function: Callable[..., None], *arguments: Any) -> Handle:
    """Return the handle that `function` gives through its last parameter."""
    place = c_void_p()
    function(*arguments, ctypes.byref(place))
    assert place.value is not None
    return Handle(kind, place.value)


def fetch_json(function: Callable[..., None], pointer: int) -> dict[str, Any]:
    """Return the JSON object that `function` gives away."""
    place = c_void_p()
    function(pointer, ctypes.byref(place))
    assert place.value is not None
    try:
        return json.loads(ctypes.string_at(place.value))
    finally:
        load().diffbir_string_free(place.value)


def text(what: str, value: str | None) -> bytes | None:
    """Return text as the library takes it."""
    if value is None:
        return None
    if not isinstance(value, str):
        raise TypeError(f"{what} is a {type(value).__name__}, expected a str")
    try:
        return without_nul(what, value.encode())
    except UnicodeEncodeError as error:
        raise InvalidArgumentError(f"{what} is not valid Unicode: {error}") from error


def path(what: str, value: str | os.PathLike[str] | None) -> bytes | None:
    """Return a path as the library takes it."""
    return None if value is None else without_nul(what, os.fsencode(value))


def without_nul(what: str, value: bytes) -> bytes:
    """Refuse a string that C would cut short."""
    if b"\0" in value:
        raise InvalidArgumentError(f"{what} has a NUL in it")
    return value


def texts(what: str, values: Iterable[str]) -> Any:
    """Return an array of strings as the library takes it."""
    if isinstance(values, str):
        raise TypeError(f"{what} is a str, expected several, such as [{values!r}]")
    encoded = [text(what, value) for value in values]
    return (c_char_p * len(encoded))(*encoded)

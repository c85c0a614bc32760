"""Engines and requests."""

from __future__ import annotations

import contextlib
import ctypes
import enum
import itertools
import logging
import math
import operator
import os
import threading
import time
import weakref
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeAlias, TypedDict, Unpack

import numpy as np
import numpy.typing as npt

from . import _library, _pixels, _runtime
from ._errors import DiffbirError, InvalidStateError, OptionError
from ._result import Image, Result

if TYPE_CHECKING:
    import PIL.Image

Path: TypeAlias = str | os.PathLike[str]
Picture: TypeAlias = "Path | bytes | bytearray | memoryview | npt.NDArray[Any] | PIL.Image.Image"
Log: TypeAlias = Callable[[int, str], object]

# How long Ctrl-C may go unnoticed: Python handles signals on its main thread alone, between calls.
_TICK_MS = 100
_LOG_LEVELS = {1: logging.INFO, 2: logging.WARNING}

# What the functions below work on, by the number that the library passes to them until it frees it.
_owned: dict[int, Any] = {}
_numbers = itertools.count(1)
# Set once a library of ONNX Runtime is in use: a process cannot change to another.
_runtime_is_loaded = threading.Event()


class Event(enum.IntEnum):
    """What a progress callback reports."""

    STAGE_STARTED = 1
    STEP = 2
    TILE = 3
    STAGE_FINISHED = 4


_EVENTS = frozenset(map(int, Event))


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a request stands.

    Attributes:
        event: a stage starts (its graph is loaded if need be), a sampling step is done, a tile
            begins, a stage is done.
        stage: `text_encoder`, `cleaner`, `vae_encoder`, `sampling`, `vae_decoder` or `finish`.
        step: the sampling step that is done, from 1; 0 where the event is none.
        total: how many steps there are; 0 where the event is no step.
        tile: the tile that begins, from 1; 0 where the event is none.
        tiles: how many tiles there are; 0 where the event is no tile.
        first_sample: the first of the samples in work, from 0.
        sample_count: how many samples are in work at once; 0 where the event is no step.
        seconds: since the stage began; 0 where it has not ended.

    """

    event: Event
    stage: str
    step: int
    total: int
    tile: int
    tiles: int
    first_sample: int
    sample_count: int
    seconds: float


ProgressCallback: TypeAlias = Callable[[Progress], object]


class Cancel:
    """A way to stop requests, from any thread. Give it to as many requests as you like."""

    def __init__(self) -> None:
        self._handle = _library.new("cancel", _library.load().diffbir_cancel_new)

    def trigger(self) -> None:
        """Ask every request that was given this object to stop. There is no way back.

        A running request ends with `CancelledError` after the sampling step or the graph that is
        running; one that starts later ends at once.
        """
        _library.load().diffbir_cancel_trigger(self._handle.pointer)

    @property
    def triggered(self) -> bool:
        """Whether somebody asked to stop."""
        return _library.load().diffbir_cancel_is_triggered(self._handle.pointer)


class Options(TypedDict, total=False):
    """How a picture is restored; see `Engine.restore`."""

    task: str | None
    sampler: str | None
    prompt: str | None
    negative_prompt: str | None
    upscale: float | None
    size: str | tuple[int, int] | None
    size_mode: str | None
    width: int | None
    height: int | None
    long_edge: int | None
    short_edge: int | None
    cfg_scale: float | None
    strength: float | None
    guidance_scale: float | None
    seed: int | None
    steps: int | None
    samples: int | None
    settings: Iterable[str]
    progress: ProgressCallback | None
    cancel: Cancel | None


_TEXTS = ("task", "sampler", "prompt", "negative_prompt")
# Fields of the library's options, their keys, and the range that the structure has room for.
_NUMBERS = {
    "upscale": "restore.upscale",
    "cfg_scale": "sampling.cfg_scale",
    "strength": "sampling.strength",
    "guidance_scale": "guidance.scale",
}
# Options without a field, and their keys.
_SIZES = {
    "size": "size.pixels",
    "size_mode": "size.mode",
    "width": "size.width",
    "height": "size.height",
    "long_edge": "size.long_edge",
    "short_edge": "size.short_edge",
}
_COUNTS = {
    "seed": ("sampling.seed", 0, 2**63),
    "steps": ("sampling.steps", 1, 2**32),
    "samples": ("sampling.samples", 1, 2**32),
}


class _Watch:
    """A request's progress callback and what that raised."""

    # Without the request's handle, whose end is what frees it.
    def __init__(self, progress: ProgressCallback | None) -> None:
        self.progress = progress
        self.failure: BaseException | None = None

    def report(self, now: _library.Progress) -> int:
        """Call the callback; 0 stops the request."""
        try:
            # A newer library may report more than this package knows.
            if self.progress is not None and now.event in _EVENTS:
                self.progress(_progress(now))
            return 1
        except BaseException as error:
            # An exception cannot pass through the library; `Request.wait` raises it.
            self.failure = error
            return 0


def _poll(handle: _library.Handle, milliseconds: int) -> tuple[bool, DiffbirError | None]:
    """Whether a request has ended within that time, and how it failed."""
    done = ctypes.c_bool()
    wait = _library.load().diffbir_request_wait
    try:
        wait(handle.pointer, milliseconds, ctypes.byref(done))
    except DiffbirError as error:
        if not done.value:
            raise
        return True, error
    return done.value, None


@_library.ProgressFn
def _on_progress(now: Any, number: int) -> int:
    return _owned[number].report(now.contents)


@_library.LogFn
def _on_log(level: int, message: bytes, number: int) -> None:
    _owned[number](_LOG_LEVELS.get(level, logging.INFO), message.decode("utf-8", "replace"))


@_library.FreeFn
def _free(number: int) -> None:
    del _owned[number]


def _own(value: object) -> int:
    """Return a number for what a callback works on; `_free` forgets it."""
    number = next(_numbers)
    _owned[number] = value
    return number


def _progress(now: _library.Progress) -> Progress:
    return Progress(
        event=Event(now.event),
        stage=now.stage.decode(),
        step=now.step,
        total=now.total,
        tile=now.tile,
        tiles=now.tiles,
        first_sample=now.first_sample,
        sample_count=now.sample_count,
        seconds=now.seconds,
    )


class Request:
    """A picture in an engine's queue, from `Engine.submit`. Any thread may use it.

    It goes on if it is dropped; `cancel` stops it, and so does closing the engine.
    """

    def __init__(self, engine: Engine, handle: _library.Handle, watch: _Watch) -> None:
        self._engine = engine
        self._handle = handle
        self._watch = watch
        self._lock = threading.RLock()
        self._result: Result | None = None

    def done(self) -> bool:
        """Whether it has ended, well or not."""
        return self._poll(0)[0]

    def cancel(self) -> None:
        """Ask this request alone to stop, as `Cancel.trigger` does for many."""
        _library.load().diffbir_request_stop(self._handle.pointer)

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until it has ended.

        Ctrl-C is noticed and leaves the request as it is.

        Args:
            timeout: seconds; None: as long as it takes.

        Returns:
            Whether it has ended.

        Raises:
            DiffbirError: the request's own failure: `InputError` for the picture,
                `RuntimeUnavailableError`, `ResourcesError`, `CancelledError`.
            BaseException: what the progress callback raised.

        """
        done, failure = self._wait(timeout)
        # The callback's exception is the cause of the library's "cancelled".
        if done and self._watch.failure is not None:
            raise self._watch.failure
        if failure is not None:
            raise failure
        return done

    def result(self, timeout: float | None = None) -> Result:
        """Wait, and return the result.

        Args:
            timeout: seconds; None: as long as it takes.

        Raises:
            TimeoutError: it has not ended in time; it goes on.
            DiffbirError: as from `wait`.
            BaseException: what the progress callback raised.

        """
        if not self.wait(timeout):
            raise TimeoutError(f"the request has not ended in {timeout} seconds")
        with self._lock:
            if self._result is None:
                library, request = _library.load(), self._handle.pointer
                take = library.diffbir_request_image
                count = library.diffbir_request_sample_count(request)
                images = [
                    Image(_library.new("image", take, request, sample)) for sample in range(count)
                ]
                facts = _library.fetch_json(library.diffbir_request_provenance, request)
                self._result = Result(images, facts)
            return self._result

    def _wait(self, timeout: float | None) -> tuple[bool, DiffbirError | None]:
        end = None if timeout is None else time.monotonic() + timeout
        in_main = threading.current_thread() is threading.main_thread()
        while True:
            left = _library.FOREVER
            if end is not None:
                left = min(math.ceil(max(end - time.monotonic(), 0) * 1000), left - 1)
            done, failure = self._poll(min(left, _TICK_MS) if in_main else left)
            if done or (end is not None and time.monotonic() >= end):
                return done, failure

    def _poll(self, milliseconds: int) -> tuple[bool, DiffbirError | None]:
        done, failure = _poll(self._handle, milliseconds)
        if done:
            self._engine._forget(self._handle)
        return done, failure

    def _end(self) -> None:
        """Stop it and wait until it has ended."""
        self.cancel()
        # Not submitted, or in a callback: nothing to wait for.
        with contextlib.suppress(DiffbirError):
            self._wait(None)


class Engine:
    """A bundle, ready to restore pictures. Threads may share one.

    Networks run one request at a time; others wait for their turn.
    """

    def __init__(
        self,
        bundle: Path | None = None,
        *,
        config: Path | None = None,
        yaml: str | None = None,
        settings: Iterable[str] = (),
        runtime_library: Path | None = None,
        verify: bool = False,
        queue_limit: int = 0,
        log: Log | None = None,
    ) -> None:
        """Read the configuration, check the bundle's files and load ONNX Runtime.

        Graphs are loaded when a request first needs them. Nothing is ever installed or fetched.

        Args:
            bundle: the bundle's folder; goes over what the configuration names.
            config: a YAML file. Relative paths in it are taken from its folder.
            yaml: YAML text that goes over the file.
            settings: strings `key=value` that go over both, such as
                `runtime.providers=[cuda, cpu]`.
            runtime_library: the path of libonnxruntime, 1.31 or newer. None: what
                `ORT_DYLIB_PATH` or the configuration names, else the one of the installed package
                onnxruntime or onnxruntime-gpu, else it is looked for. `auto`: it is looked for
                without regard to the installed package. A process can use only one.
            verify: read every file of the bundle and compare its hash, also those that were found
                sound before.
            queue_limit: how many requests may wait; 0: 64.
            log: receives log messages, as `logging.INFO` or `logging.WARNING` and a message;
                `logging.getLogger("diffbir").log` fits. Comes from any thread, also from several
                at once, and must not use this package.

        Raises:
            ConfigError: the configuration is not valid.
            OptionError: the configuration asks for what the bundle does not serve.
            BundleError: the bundle is missing, damaged or of another format.
            RuntimeUnavailableError: ONNX Runtime or a provider.
            LibraryNotFoundError: the native library is missing.

        """
        library = _library.load()
        settings = _several("settings", settings)
        chosen = runtime_library is not None or _runtime_is_loaded.is_set()
        if not chosen and not _runtime.is_named(config, yaml, settings):
            runtime_library = _runtime.installed()
        options = _library.filled(_library.EngineOptions)
        options.config_file = _library.path("config", config)
        options.config_yaml = _library.text("yaml", yaml)
        options.bundle = _library.path("bundle", bundle)
        options.settings = _library.texts("settings", settings)
        options.setting_count = len(settings)
        options.runtime_library = _library.path("runtime_library", runtime_library)
        options.verify = int(verify)
        options.queue_limit = _in_range("queue_limit", queue_limit)
        if log is not None:
            options.log = ctypes.cast(_on_log, ctypes.c_void_p)
            options.log_data = _own(log)
            options.log_free = ctypes.cast(_free, ctypes.c_void_p)
        place = ctypes.c_void_p()
        library.diffbir_engine_new(ctypes.byref(options), ctypes.byref(place))
        _runtime_is_loaded.set()
        assert place.value is not None
        self._pointer = place.value
        # Requests in the queue or at work, which would be stopped if their handles were freed.
        self._working: dict[_library.Handle, _Watch] = {}
        # Also at exit: the library's thread must not call into an interpreter that is gone.
        self._finalizer = weakref.finalize(self, _close, place.value, self._working)

    def restore(self, picture: Picture, **options: Unpack[Options]) -> Result:
        """Restore a picture and return its samples. What is None is as the engine's configuration.

        Ctrl-C stops the request, waits until it has ended and is raised then.

        Args:
            picture: a file's path; a file's bytes (PNG, JPEG, WebP, TIFF or BMP); an array in sRGB,
                (H, W) grey, (H, W, 3) RGB or (H, W, 4) RGBA (not premultiplied), uint8 (0 to
                255), uint16 (0 to 65535) or float32 (0 to 1), of any strides; or a Pillow image,
                whose values are taken as sRGB. Of more than 8 bits a result has 16. Only a path has
                a caption (`NAME.txt` beside it); only files keep EXIF, XMP and colour profiles. A
                result has its input's alpha again.
            task: `sr`, `face` (aligned) or `denoise`, as far as the bundle serves them.
            sampler: the sampler's name.
            prompt: the positive prompt.
            negative_prompt: the negative prompt.
            upscale: output size over input size, more than 0.
            size: the result's size instead, `"WIDTHxHEIGHT"` or (width, height) in pixels. Of
                `upscale`, `size`, `width`, `height`, `long_edge` and `short_edge` at most one.
            size_mode: how a picture of another aspect ratio gets `size`: `fit`, `fill` or `exact`.
            width: the result's width in pixels; its height follows from the aspect ratio.
            height: the result's height in pixels; its width follows.
            long_edge: its longer edge.
            short_edge: its shorter edge.
            cfg_scale: scale of classifier-free guidance, 1 for none.
            strength: weight of the control module, 0 to 1 and beyond.
            guidance_scale: scale of restoration guidance towards stage 1, 0 for none.
            seed: of the noise, from 0.
            steps: sampling steps.
            samples: how many samples to make.
            settings: strings `key=value` that go over all of these: any key of the sections
                `restore`, `size`, `sampling`, `guidance`, `tiling`, `input` and `output`, such as
                `tiling.cldm=512:256` or `size.width=1920`.
            progress: receives a `Progress`, on the library's thread; its value is ignored.
                What it raises stops the request and is raised from here.
            cancel: lets others stop the request.

        Raises:
            OptionError: an option is not accepted or not served by the bundle.
            InputError: the picture cannot be read.
            TypeError, InvalidArgumentError: the picture is of no known kind, dtype or shape.
            RuntimeUnavailableError, ResourcesError: ONNX Runtime; memory.
            CancelledError: `cancel` was triggered or the engine was closed.
            BusyError: as many requests wait as may.
            InvalidStateError: the engine is closed, or this is a progress callback.

        """
        request = self._request(picture, **options)
        try:
            self._submit(request)
            return request.result()
        except BaseException:
            request._end()
            raise

    def submit(self, picture: Picture, **options: Unpack[Options]) -> Request:
        """Put a picture into the engine's queue and return at once.

        Arguments and errors are those of `restore`; a picture's file is read, and so refused, only
        when its turn comes. An array may be changed once this has returned.
        """
        request = self._request(picture, **options)
        self._submit(request)
        return request

    @property
    def bundle(self) -> dict[str, Any]:
        """What the bundle is.

        `dir`, `sha256`, `family`, `weights`, `tasks`, `defaults` and `graphs`.
        """
        return _library.fetch_json(_library.load().diffbir_engine_bundle, self._open())

    @property
    def runtime(self) -> dict[str, Any]:
        """What pictures run on.

        ONNX Runtime's `library`, `origin` and `version`, the configured `providers` in order, and
        the `devices` that ONNX Runtime offers.
        """
        return _library.fetch_json(_library.load().diffbir_engine_runtime, self._open())

    @property
    def configuration(self) -> dict[str, Any]:
        """The effective configuration, with the keys of the YAML files."""
        return _library.fetch_json(_library.load().diffbir_engine_configuration, self._open())

    def close(self) -> None:
        """Stop all requests, wait until none runs any more, and free the engine.

        Results stay. Closing twice is fine.
        """
        self._finalizer()

    @property
    def closed(self) -> bool:
        """Whether the engine was closed."""
        return not self._finalizer.alive

    def __enter__(self) -> Self:
        """Return the engine; it is closed at the end of the `with`."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the engine."""
        self.close()

    def _open(self) -> int:
        if self.closed:
            raise InvalidStateError("the engine is closed")
        return self._pointer

    def _request(
        self,
        picture: Picture,
        *,
        progress: ProgressCallback | None = None,
        cancel: Cancel | None = None,
        **options: Any,
    ) -> Request:
        library = _library.load()
        # The references live until the call is over, and the library copies what they point to.
        given, _settings = _c_options(**options)
        handle = _library.new("request", library.diffbir_request_new, self._open())
        library.diffbir_request_set_options(handle.pointer, ctypes.byref(given))
        _set_picture(handle.pointer, picture)
        if cancel is not None:
            library.diffbir_request_set_cancel(handle.pointer, cancel._handle.pointer)
        watch = _Watch(progress)
        if progress is not None:
            set_progress = library.diffbir_request_set_progress
            set_progress(handle.pointer, _on_progress, _own(watch), _free)
        return Request(self, handle, watch)

    def _submit(self, request: Request) -> None:
        for other in self._working.copy():
            if _poll(other, 0)[0]:
                self._forget(other)
        self._working[request._handle] = request._watch
        try:
            _library.load().diffbir_request_submit(request._handle.pointer)
        except DiffbirError:
            self._forget(request._handle)
            raise

    def _forget(self, handle: _library.Handle) -> None:
        watch = self._working.pop(handle, None)
        if watch is not None:
            # The callback may hold the request, whose end frees the callback.
            watch.progress = None


def _close(engine: int, working: dict[_library.Handle, _Watch]) -> None:
    _library.load().diffbir_engine_free(engine)
    working.clear()


def _several(what: str, values: Iterable[str]) -> list[str]:
    if isinstance(values, str):
        raise TypeError(f"{what} is a str, expected several, such as [{values!r}]")
    return list(values)


def _in_range(what: str, value: int) -> int:
    number = operator.index(value)
    if not 0 <= number < 2**32:
        raise OptionError(f"{what} is {number}, expected 0 to {2**32 - 1}")
    return number


def _text(value: Any) -> str:
    return "x".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _c_options(*, settings: Iterable[str] = (), **given: Any) -> tuple[_library.Options, Any]:
    """Return options as the library takes them, and the settings that have to live with them."""
    unknown = sorted(given.keys() - {*_TEXTS, *_NUMBERS, *_SIZES, *_COUNTS})
    if unknown:
        raise TypeError(f"unexpected keyword argument {unknown[0]!r}")
    options = _library.filled(_library.Options)
    for field in _TEXTS:
        setattr(options, field, _library.text(field, given.get(field)))
    # A value that the structure takes for unset, or has no room for, goes in as text: then the
    # library refuses it in its own words.
    odd = [
        f"{key}={_text(given[field])}"
        for field, key in _SIZES.items()
        if given.get(field) is not None
    ]
    sized = bool(odd)
    for field, key in _NUMBERS.items():
        value = given.get(field)
        if value is not None and (math.isnan(value) or (sized and field == "upscale")):
            # With a size in one place, so that the two are refused.
            odd.append(f"{key}={'.nan' if math.isnan(value) else float(value)}")
        elif value is not None:
            setattr(options, field, value)
    for field, (key, least, beyond) in _COUNTS.items():
        if given.get(field) is None:
            continue
        number = operator.index(given[field])
        if least <= number < beyond:
            setattr(options, field, number)
        else:
            odd.append(f"{key}={number}")
    strings = [*odd, *_several("settings", settings)]
    array = _library.texts("settings", strings)
    options.settings, options.setting_count = array, len(strings)
    return options, array


def _set_picture(request: int, picture: Picture) -> None:
    library = _library.load()
    if isinstance(picture, str | os.PathLike):
        library.diffbir_request_set_file(request, _library.path("picture", picture))
    elif isinstance(picture, bytes | bytearray | memoryview):
        data = bytes(picture)
        library.diffbir_request_set_bytes(request, data, len(data))
    elif isinstance(picture, np.ndarray) or _pixels.is_pil(picture):
        array = picture if isinstance(picture, np.ndarray) else _pixels.of_pil(picture)
        # `_alive` is the memory that the description points to.
        pixels, _alive = _pixels.describe(array)
        library.diffbir_request_set_pixels(request, ctypes.byref(pixels))
    else:
        raise TypeError(
            f"the picture is a {type(picture).__name__}, expected a path, a file's bytes, "
            "a numpy array or a Pillow image"
        )

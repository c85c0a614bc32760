"""Engines and requests."""

from __future__ import annotations

import contextlib
import ctypes
import enum
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
from typing import TYPE_CHECKING, Any, Self, TypeAlias

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

# Threads that are in a progress callback now.
_calling: set[int] = set()
# Callbacks that closed their own engine: the library is still to return through them.
_immortal: list[object] = []
# Set once a library of ONNX Runtime is in use: a process cannot change to another.
_runtime_is_loaded = threading.Event()


class Event(enum.IntEnum):
    """What a progress callback is told of."""

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


class _Watch:
    """What the library's thread and Python share about a request."""

    def __init__(self, progress: ProgressCallback | None) -> None:
        self.progress = progress
        self.stop = False
        self.failure: BaseException | None = None

    def tell(self, told: Any, _data: int | None) -> int:
        """Be the library's progress function: 0 stops the request."""
        thread = threading.get_ident()
        _calling.add(thread)
        try:
            if self.progress is not None and not self.stop:
                now = told.contents
                # A newer library may tell of more than this package knows.
                if now.event in _EVENTS:
                    self.progress(_progress(now))
            return 0 if self.stop else 1
        except BaseException as error:
            # An exception cannot pass through the library; `Request.wait` raises it.
            self.failure = error
            return 0
        finally:
            _calling.discard(thread)


def _progress(told: _library.Progress) -> Progress:
    return Progress(
        event=Event(told.event),
        stage=told.stage.decode(),
        step=told.step,
        total=told.total,
        tile=told.tile,
        tiles=told.tiles,
        first_sample=told.first_sample,
        sample_count=told.sample_count,
        seconds=told.seconds,
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
        self._watch.stop = True
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
        if threading.get_ident() in _calling and timeout != 0:
            raise InvalidStateError("a progress callback cannot wait for a request: it is in it")
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
        """Whether it has ended within that time, and how it failed."""
        done = ctypes.c_bool()
        wait = _library.load().diffbir_request_wait
        try:
            wait(self._handle.pointer, milliseconds, ctypes.byref(done))
        except DiffbirError as error:
            if not done.value:
                raise
            self._engine._forget(self._handle.pointer)
            return True, error
        if done.value:
            self._engine._forget(self._handle.pointer)
        return done.value, None

    def _end(self) -> None:
        """Stop it and wait until it has ended."""
        self.cancel()
        # Not submitted, or in the very callback: nothing to wait for.
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
            log: told of what happens, as `logging.INFO` or `logging.WARNING` and a message;
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
        # What the library may still call or use, by request; 0 is the engine's own.
        self._kept: dict[int, object] = {}
        if log is not None:
            hook = _log_function(log)
            options.log = ctypes.cast(hook, ctypes.c_void_p)
            self._kept[0] = hook
        place = ctypes.c_void_p()
        library.diffbir_engine_new(ctypes.byref(options), ctypes.byref(place))
        _runtime_is_loaded.set()
        assert place.value is not None
        self._pointer = place.value
        # Also at exit: the library's thread must not call into an interpreter that is gone.
        self._finalizer = weakref.finalize(self, _close, place.value, self._kept)

    def restore(
        self,
        picture: Picture,
        *,
        task: str | None = None,
        sampler: str | None = None,
        prompt: str | None = None,
        negative_prompt: str | None = None,
        upscale: float | None = None,
        cfg_scale: float | None = None,
        strength: float | None = None,
        guidance_scale: float | None = None,
        seed: int | None = None,
        steps: int | None = None,
        samples: int | None = None,
        settings: Iterable[str] = (),
        progress: ProgressCallback | None = None,
        cancel: Cancel | None = None,
    ) -> Result:
        """Restore a picture and return its samples. What is None is as the engine's configuration.

        Ctrl-C stops the request, waits until it has ended and is raised then.

        Args:
            picture: a file's path; a file's bytes (PNG, JPEG, WebP, TIFF or BMP); an array in sRGB,
                (H, W) grey, (H, W, 3) RGB or (H, W, 4) RGBA (not premultiplied), uint8 (0 to
                255), uint16 (0 to 65535) or float32 (0 to 1), of any strides; or a Pillow image,
                whose values are taken as sRGB. All are worked on in 8 bits. Only a path has a
                caption (`NAME.txt` beside it); only files keep EXIF, XMP and colour profiles. A
                result has its input's alpha again.
            task: `sr`, `face` (aligned) or `denoise`, as far as the bundle serves them.
            sampler: the sampler's name.
            prompt: the positive prompt.
            negative_prompt: the negative prompt.
            upscale: output size over input size, more than 0.
            cfg_scale: scale of classifier-free guidance, 1 for none.
            strength: weight of the control module, 0 to 1 and beyond.
            guidance_scale: scale of restoration guidance towards stage 1, 0 for none.
            seed: of the noise, from 0.
            steps: sampling steps.
            samples: how many samples to make.
            settings: strings `key=value` that go over all of these: any key of the sections
                `restore`, `sampling`, `guidance`, `tiling`, `input` and `output`, such as
                `tiling.cldm=512:256`.
            progress: told where the request stands, on the library's thread; its value is passed
                over. What it raises stops the request and is raised from here.
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
        if threading.get_ident() in _calling:
            raise InvalidStateError("a progress callback cannot wait for a request: it is in it")
        request = self._request(
            picture,
            task=task,
            sampler=sampler,
            prompt=prompt,
            negative_prompt=negative_prompt,
            upscale=upscale,
            cfg_scale=cfg_scale,
            strength=strength,
            guidance_scale=guidance_scale,
            seed=seed,
            steps=steps,
            samples=samples,
            settings=settings,
            progress=progress,
            cancel=cancel,
        )
        try:
            self._submit(request)
            return request.result()
        except BaseException:
            request._end()
            raise

    def submit(
        self,
        picture: Picture,
        *,
        task: str | None = None,
        sampler: str | None = None,
        prompt: str | None = None,
        negative_prompt: str | None = None,
        upscale: float | None = None,
        cfg_scale: float | None = None,
        strength: float | None = None,
        guidance_scale: float | None = None,
        seed: int | None = None,
        steps: int | None = None,
        samples: int | None = None,
        settings: Iterable[str] = (),
        progress: ProgressCallback | None = None,
        cancel: Cancel | None = None,
    ) -> Request:
        """Put a picture into the engine's queue and return at once.

        Arguments and errors are those of `restore`; a picture's file is read, and so refused, only
        when its turn comes. An array may be changed once this has returned.
        """
        request = self._request(
            picture,
            task=task,
            sampler=sampler,
            prompt=prompt,
            negative_prompt=negative_prompt,
            upscale=upscale,
            cfg_scale=cfg_scale,
            strength=strength,
            guidance_scale=guidance_scale,
            seed=seed,
            steps=steps,
            samples=samples,
            settings=settings,
            progress=progress,
            cancel=cancel,
        )
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
        progress: ProgressCallback | None,
        cancel: Cancel | None,
        **options: Any,
    ) -> Request:
        library = _library.load()
        handle = _library.new("request", library.diffbir_request_new, self._open())
        request = Request(self, handle, _Watch(progress))
        # The references live until the call is over, and the library copies what they point to.
        given, _settings = _options(**options)
        library.diffbir_request_set_options(handle.pointer, ctypes.byref(given))
        _set_picture(handle.pointer, picture)
        if cancel is not None:
            library.diffbir_request_set_cancel(handle.pointer, cancel._handle.pointer)
        return request

    def _submit(self, request: Request) -> None:
        library, pointer = _library.load(), request._handle.pointer
        for other in list(self._kept):
            self._forget_if_done(other)
        hook = _library.ProgressFn(request._watch.tell)
        library.diffbir_request_set_progress(pointer, hook, None)
        # The handle too: freeing it would stop the request and leave no way to see when it ends.
        self._kept[pointer] = (hook, request._handle)
        try:
            library.diffbir_request_submit(pointer)
        except DiffbirError:
            self._forget(pointer)
            raise

    def _forget(self, pointer: int) -> None:
        self._kept.pop(pointer, None)

    def _forget_if_done(self, pointer: int) -> None:
        done = ctypes.c_bool()
        # The error is for whoever waits for that request.
        with contextlib.suppress(DiffbirError):
            _library.load().diffbir_request_poll(pointer, ctypes.byref(done))
        if done.value:
            self._forget(pointer)


def _close(engine: int, kept: dict[int, object]) -> None:
    _library.load().diffbir_engine_free(engine)
    # Called by a callback, the library does not wait: it is still to return through that callback.
    if threading.get_ident() in _calling:
        _immortal.append(dict(kept))
    kept.clear()


def _log_function(log: Log) -> Any:
    def tell(level: int, message: bytes, _data: int | None) -> None:
        log(_LOG_LEVELS.get(level, logging.INFO), message.decode("utf-8", "replace"))

    return _library.LogFn(tell)


def _several(what: str, values: Iterable[str]) -> list[str]:
    if isinstance(values, str):
        raise TypeError(f"{what} is a str, expected several, such as [{values!r}]")
    return list(values)


def _in_range(what: str, value: int) -> int:
    number = operator.index(value)
    if not 0 <= number < 2**32:
        raise OptionError(f"{what} is {number}, expected 0 to {2**32 - 1}")
    return number


def _options(
    *,
    task: str | None,
    sampler: str | None,
    prompt: str | None,
    negative_prompt: str | None,
    upscale: float | None,
    cfg_scale: float | None,
    strength: float | None,
    guidance_scale: float | None,
    seed: int | None,
    steps: int | None,
    samples: int | None,
    settings: Iterable[str],
) -> tuple[_library.Options, Any]:
    """Return options as the library takes them, and the settings that have to live with them."""
    options = _library.filled(_library.Options)
    options.task = _library.text("task", task)
    options.sampler = _library.text("sampler", sampler)
    options.prompt = _library.text("prompt", prompt)
    options.negative_prompt = _library.text("negative_prompt", negative_prompt)
    # A value that the structure takes for unset, or has no room for, goes in as text: then the
    # library refuses it in its own words.
    odd = []
    numbers = {
        ("upscale", "restore.upscale"): upscale,
        ("cfg_scale", "sampling.cfg_scale"): cfg_scale,
        ("strength", "sampling.strength"): strength,
        ("guidance_scale", "guidance.scale"): guidance_scale,
    }
    for (field, key), value in numbers.items():
        if value is not None and math.isnan(value):
            odd.append(f"{key}=.nan")
        elif value is not None:
            setattr(options, field, value)
    counts = {
        ("seed", "sampling.seed"): (seed, 0, 2**63),
        ("steps", "sampling.steps"): (steps, 1, 2**32),
        ("samples", "sampling.samples"): (samples, 1, 2**32),
    }
    for (field, key), (value, least, beyond) in counts.items():
        if value is None:
            continue
        number = operator.index(value)
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

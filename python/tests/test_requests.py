"""Progress, cancelling, the queue and threads."""

import contextlib
import gc
import signal
import threading
import weakref

import numpy as np
import pytest
from conftest import FAST

import diffbir
from diffbir import _engine, _library


class Gate:
    """A progress function that stops the request's thread at its first event until `open`."""

    def __init__(self):
        self.reached = threading.Event()
        self.way = threading.Event()

    def __call__(self, progress):
        self.reached.set()
        assert self.way.wait(60)

    def open(self):
        self.way.set()


@pytest.fixture
def gate():
    gate = Gate()
    yield gate
    gate.open()


def test_progress_tells_all_stages_and_steps(engine, colours):
    told = []
    here = threading.get_ident()
    threads = set()

    def progress(now):
        threads.add(threading.get_ident())
        told.append(now)

    engine.restore(colours, **{**FAST, "steps": 3, "samples": 2}, progress=progress)
    stages = ["cleaner", "vae_encoder", "sampling", "vae_decoder", "finish"]
    starts = [p.stage for p in told if p.event == diffbir.Event.STAGE_STARTED]
    assert list(dict.fromkeys(starts)) == stages
    steps = [(p.step, p.total, p.first_sample) for p in told if p.event == diffbir.Event.STEP]
    assert steps == [(step, 3, sample) for sample in (0, 1) for step in (1, 2, 3)]
    assert all(p.seconds > 0 for p in told if p.event == diffbir.Event.STAGE_FINISHED)
    assert here not in threads


def test_an_exception_in_progress_stops_the_request_and_comes_out(engine, colours, restored):
    told = []

    def progress(now):
        told.append(now)
        raise ZeroDivisionError("mine")

    with pytest.raises(ZeroDivisionError, match="mine"):
        engine.restore(colours, **FAST, progress=progress)
    assert len(told) == 1
    request = engine.submit(colours, **FAST, progress=progress)
    for _ in range(2):
        with pytest.raises(ZeroDivisionError, match="mine"):
            request.wait()
    assert request.done()
    np.testing.assert_array_equal(engine.restore(colours, **FAST)[0].array(), restored)


def test_an_exception_at_the_very_end_comes_out_too(engine, colours):
    def progress(now):
        if now.stage == "finish" and now.event == diffbir.Event.STAGE_FINISHED:
            raise LookupError("late")

    with pytest.raises(LookupError, match="late"):
        engine.restore(colours, **FAST, progress=progress)


def test_events_of_a_newer_library_are_passed_over():
    told = []
    watch = _engine._Watch(told.append)
    now = _library.Progress(event=99, stage=b"x")
    assert watch.report(now) == 1
    now.event = 2
    assert watch.report(now) == 1
    assert [p.event for p in told] == [diffbir.Event.STEP]


def test_cancel_from_another_thread(engine, colours, gate):
    cancel = diffbir.Cancel()
    assert not cancel.triggered

    def stop():
        assert gate.reached.wait(60)
        cancel.trigger()
        gate.open()

    thread = threading.Thread(target=stop)
    thread.start()
    with pytest.raises(diffbir.CancelledError) as stopped:
        engine.restore(colours, **FAST, progress=gate, cancel=cancel)
    thread.join()
    assert stopped.value.code == diffbir.Code.CANCELLED
    assert cancel.triggered
    with pytest.raises(diffbir.CancelledError):
        engine.restore(colours, **FAST, cancel=cancel)


def test_submit_wait_result(engine, colours, restored, gate):
    request = engine.submit(colours, **FAST, progress=gate)
    assert gate.reached.wait(60)
    assert not request.done()
    assert request.wait(0) is False
    assert request.wait(0.001) is False
    with pytest.raises(TimeoutError):
        request.result(timeout=0)
    gate.open()
    assert request.wait() is True
    assert request.done() and request.wait(0) is True
    assert request.result() is request.result()
    np.testing.assert_array_equal(request.result()[0].array(), restored)


def test_the_array_may_change_after_submit(engine, colours, restored):
    given = colours.copy()
    request = engine.submit(given, **FAST)
    given[:] = 0
    np.testing.assert_array_equal(request.result()[0].array(), restored)


def test_a_request_is_cancelled_alone(engine, colours, gate):
    cancel = diffbir.Cancel()
    first = engine.submit(colours, **FAST, progress=gate, cancel=cancel)
    second = engine.submit(colours, **FAST, cancel=cancel)
    assert gate.reached.wait(60)
    first.cancel()
    gate.open()
    with pytest.raises(diffbir.CancelledError):
        first.result()
    assert first.done()
    assert len(second.result()) == 1


def test_many_threads_share_an_engine_and_a_request(engine, colours, restored):
    request = engine.submit(colours, **FAST)
    results = []

    def work(task):
        results.append(task()[0].array())

    tasks = [request.result, request.result, lambda: engine.restore(colours, **FAST)]
    threads = [threading.Thread(target=work, args=(task,)) for task in tasks]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 3
    for result in results:
        np.testing.assert_array_equal(result, restored)


def test_a_full_queue_is_busy(bundle, colours, gate):
    with diffbir.Engine(bundle, queue_limit=1) as engine:
        engine.submit(colours, **FAST, progress=gate)
        assert gate.reached.wait(60)
        waiting = engine.submit(colours, **FAST)
        with pytest.raises(diffbir.BusyError, match="1 requests are waiting"):
            engine.submit(colours, **FAST)
        with pytest.raises(diffbir.BusyError):
            engine.restore(colours, **FAST)
        gate.open()
        waiting.result()
        # Those that have ended are forgotten by the next.
        engine.restore(colours, **FAST)
        assert engine._working == {}


def test_a_dropped_request_goes_on(engine, colours, gate):
    ended = threading.Event()

    def progress(now):
        gate(now)
        if now.stage == "finish" and now.event == diffbir.Event.STAGE_FINISHED:
            ended.set()

    request = engine.submit(colours, **FAST, progress=progress)
    gone = weakref.ref(request)
    del request
    gc.collect()
    assert gone() is None
    gate.open()
    assert ended.wait(60)


def test_closing_stops_what_runs_and_what_waits(bundle, colours, gate):
    engine = diffbir.Engine(bundle)
    running = engine.submit(colours, **FAST, progress=gate)
    waiting = engine.submit(colours, **FAST)
    assert gate.reached.wait(60)
    closer = threading.Thread(target=engine.close)
    closer.start()
    gate.open()
    closer.join()
    engine.close()
    for request in (running, waiting):
        with pytest.raises(diffbir.CancelledError):
            request.result()
    with pytest.raises(diffbir.InvalidStateError, match="the engine is closed"):
        engine.restore(colours, **FAST)
    with pytest.raises(diffbir.InvalidStateError, match="the engine is closed"):
        _ = engine.bundle


def test_a_callback_may_close_its_engine(bundle, colours):
    engine = diffbir.Engine(bundle)
    with pytest.raises(diffbir.CancelledError):
        engine.restore(colours, **FAST, progress=lambda now: engine.close())
    assert engine.closed


def test_a_callback_cannot_wait_for_itself(engine, colours):
    with pytest.raises(diffbir.InvalidStateError, match="a progress callback cannot wait"):
        engine.restore(colours, **FAST, progress=lambda now: engine.restore(colours, **FAST))
    gate_open = threading.Event()
    requests = []

    def progress(now):
        assert gate_open.wait(60)
        assert not requests[0].done()
        requests[0].wait()

    requests.append(engine.submit(colours, **FAST, progress=progress))
    gate_open.set()
    with pytest.raises(diffbir.InvalidStateError, match="a progress callback cannot wait"):
        requests[0].result()


def interrupt(engine, colours, monkeypatch, call):
    """Press Ctrl-C while a request runs, which goes on once it was asked to stop.

    `call` is given what it sets once Ctrl-C may come.
    """
    stopped, ready = threading.Event(), threading.Event()
    cancel = diffbir.Request.cancel

    def observed(request):
        cancel(request)
        stopped.set()

    monkeypatch.setattr(diffbir.Request, "cancel", observed)
    events = []

    def progress(now):
        events.append(now)
        if len(events) == 1:
            assert ready.wait(60)
            signal.raise_signal(signal.SIGINT)
            assert stopped.wait(60)

    # A process that was started in the background ignores Ctrl-C.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            call(progress, observed, ready)
    finally:
        signal.signal(signal.SIGINT, before)
    return events


def test_ctrl_c_stops_restore(engine, colours, restored, monkeypatch):
    def call(progress, _cancel, ready):
        ready.set()
        engine.restore(colours, **FAST, progress=progress)

    events = interrupt(engine, colours, monkeypatch, call)
    assert len(events) == 1
    assert engine._working == {}
    np.testing.assert_array_equal(engine.restore(colours, **FAST)[0].array(), restored)


def test_ctrl_c_leaves_a_submitted_request(engine, colours, monkeypatch):
    requests = []

    def call(progress, cancel, ready):
        requests.append(engine.submit(colours, **FAST, progress=progress))
        try:
            ready.set()
            requests[0].wait()
        except KeyboardInterrupt:
            assert not requests[0].done()
            cancel(requests[0])
            raise

    interrupt(engine, colours, monkeypatch, call)
    with pytest.raises(diffbir.CancelledError):
        requests[0].result()


def held_by_its_callback(engine, colours):
    requests = []
    requests.append(engine.submit(colours, **FAST, progress=lambda now: len(requests)))
    requests[0].result()


def test_handles_are_freed(bundle, colours):
    library = _library.load()
    gc.collect()
    before, owned = library.diffbir_live_handles(), len(_engine._owned)
    with diffbir.Engine(bundle) as engine:
        for given in (colours, b"no picture"):
            with contextlib.suppress(diffbir.InputError):
                engine.restore(given, **FAST, cancel=diffbir.Cancel())
        log = []
        with diffbir.Engine(bundle, log=lambda level, message: log.append(message)):
            assert log
        with pytest.raises(diffbir.BundleError):
            diffbir.Engine(bundle / "missing", log=print)
        engine.submit(colours, **FAST, progress=lambda now: None).result()
        held_by_its_callback(engine, colours)
    del engine
    gc.collect()
    assert library.diffbir_live_handles() == before
    assert len(_engine._owned) == owned

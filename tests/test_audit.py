"""The audit itself: it must find what it is there for, or the whole suite proves nothing."""

import asyncio
import logging
import os
import socket
import threading
import warnings

import pytest

from support.audit import Audit


def findings_of(leak):
    """Audits `leak`, which may return a clean-up to be called afterwards."""
    with Audit() as inner:
        clean_up = leak(inner)
        found = inner.findings()
    if clean_up is not None:
        clean_up()
    return "\n".join(found)


def test_clean_code_has_no_findings():
    assert findings_of(lambda inner: None) == ""


def test_descriptor_left_open_is_found():
    def leak(inner):
        read_end, write_end = os.pipe()
        return lambda: (os.close(read_end), os.close(write_end))

    assert findings_of(leak).count("left open: pipe:") == 2


def test_descriptor_closed_behind_its_owner_is_found():
    read_end, write_end = os.pipe()

    def leak(inner):
        os.close(read_end)

    assert f"descriptor {read_end} closed: pipe:" in findings_of(leak)
    os.close(write_end)


def test_thread_left_running_is_found(monkeypatch):
    monkeypatch.setattr("support.audit.SETTLE_SECONDS", 0.01)
    release = threading.Event()

    def leak(inner):
        thread = threading.Thread(target=release.wait, name="the leak", daemon=True)
        thread.start()
        return lambda: (release.set(), thread.join())

    assert "thread left running: the leak" in findings_of(leak)


def test_loop_left_open_is_found():
    def leak(inner):
        loop = asyncio.SelectorEventLoop()
        inner.loops.add(loop)
        return loop.close

    assert "event loop left open: <_UnixSelectorEventLoop" in findings_of(leak)


def test_error_log_is_found_and_can_be_taken(audit):
    def leak(inner):
        logging.getLogger("asyncio").error("the fault")

    def taken(inner):
        leak(inner)
        assert inner.take_log("fault", logging.ERROR).getMessage() == "the fault"

    assert "unexpected log record: ERROR the fault" in findings_of(leak)
    assert findings_of(taken) == ""
    # The audit of this test has heard it as well.
    audit.log.records.clear()


def test_resource_warning_is_found_and_can_be_taken():
    def leak(inner):
        socket.socket()

    def taken(inner):
        leak(inner)
        inner.take_warning(ResourceWarning, "unclosed <socket")

    assert "unexpected warning: ResourceWarning: unclosed <socket" in findings_of(leak)
    assert findings_of(taken) == ""


def test_coroutine_never_awaited_is_found():
    async def coroutine():
        pass

    assert "was never awaited" in findings_of(lambda inner: coroutine() and None)


def test_unraisable_exception_is_found_and_can_be_taken():
    class Raising:
        def __del__(self):
            raise ValueError("in the finalizer")

    def leak(inner):
        Raising()

    def taken(inner):
        leak(inner)
        inner.take_unraisable("in the finalizer")

    assert "unexpected unraisable exception: " in findings_of(leak)
    assert findings_of(taken) == ""


def test_taking_what_did_not_happen_fails():
    with Audit() as inner:
        with pytest.raises(AssertionError, match="0 log records match"):
            inner.take_log("anything")
        with pytest.raises(AssertionError, match="0 warnings match"):
            inner.take_warning(Warning, "anything")
        with pytest.raises(AssertionError, match="0 unraisable exceptions match"):
            inner.take_unraisable("anything")


def test_other_warnings_are_not_the_audits_business():
    assert findings_of(lambda inner: warnings.warn("old", DeprecationWarning, stacklevel=1)) == ""

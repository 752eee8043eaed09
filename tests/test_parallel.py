import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st
from joblib import parallel_config

from ztf_sg import parallel
from ztf_sg.parallel import CHUNK, map_chunks, threaded


@given(st.integers(0, 5 * CHUNK))
def test_chunks_cover_every_row_once_and_in_order(n):
    parts = map_chunks(lambda rows: list(range(n))[rows], n)
    assert sum(parts, []) == list(range(n))
    assert all(0 < len(part) <= CHUNK for part in parts)


def test_a_single_chunk_starts_no_thread():
    assert map_chunks(lambda rows: threading.current_thread(), CHUNK) == [threading.main_thread()]


def test_an_error_of_a_chunk_is_raised(monkeypatch):
    monkeypatch.setattr(parallel, "CHUNK", 1)
    with pytest.raises(ZeroDivisionError):
        map_chunks(lambda rows: 1 / (rows.start - 3), 10)


def test_linear_algebra_is_limited_once_for_overlapping_calls(monkeypatch):
    """The limit is that of the process: each call that sets it anew would give back that of another one."""
    calls = []

    class Controller:
        def limit(self, limits, user_api):
            calls.append((user_api, limits))
            return self

        def restore_original_limits(self):
            calls.append("restored")

    monkeypatch.setattr(parallel, "_controller", Controller)
    inside, go_on = threading.Event(), threading.Event()

    def wait(_):
        inside.set()
        go_on.wait(60)

    other = threading.Thread(target=threaded, args=(wait, [0], 1))
    other.start()
    assert inside.wait(60)
    threaded(len, ["ab"], 1)
    assert calls == [("blas", 1)], "the other one is still inside"
    go_on.set()
    other.join()
    assert calls == [("blas", 1), "restored"]
    with pytest.raises(TypeError):
        threaded(len, [0], 1)
    assert calls == [("blas", 1), "restored"] * 2


def test_within_a_task_of_many_no_threads_are_started():
    with parallel_config("sequential"):
        threads = map_chunks(lambda rows: threading.current_thread(), 3 * CHUNK)
    assert threads == [threading.main_thread()] * 3

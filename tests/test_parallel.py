import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st
from joblib import parallel_config

from ztf_sg import parallel
from ztf_sg.parallel import CHUNK, map_chunks


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


def test_within_a_task_of_many_no_threads_are_started():
    with parallel_config("sequential"):
        threads = map_chunks(lambda rows: threading.current_thread(), 3 * CHUNK)
    assert threads == [threading.main_thread()] * 3

import json

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ztf_sg.services.query_cache import QueryCache, describe_queries

TABLE = pd.DataFrame({"RA": [1.0, 2.0], "TYPE": ["PSF", "REX"], "ID": pd.array([9 * 10**18, None], "Int64")})


class Service:
    """A service that counts how often it is asked."""

    def __init__(self, answer=TABLE):
        self.answer = answer
        self.asked = 0

    def __call__(self):
        self.asked += 1
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer.copy()


def test_same_query_is_asked_once(tmp_path):
    service, cache = Service(), QueryCache(tmp_path / "cache")
    first = cache.get("tap", "SELECT 1", service)
    second = QueryCache(tmp_path / "cache").get("tap", "SELECT 1", service)
    assert service.asked == 1
    pd.testing.assert_frame_equal(first, second)
    pd.testing.assert_frame_equal(first, TABLE)


def test_record_tells_query_service_date_rows_and_whether_it_was_kept(tmp_path):
    cache = QueryCache(tmp_path)
    first, second = (cache.get("tap", "SELECT 1", Service()).attrs["query"] for _ in range(2))
    assert first == {
        "service": "tap", "query": "SELECT 1", "date": first["date"], "rows": 2, "cached": False
    }  # fmt: skip
    assert second == {**first, "cached": True}
    assert pd.Timestamp(first["date"]).tzinfo is not None
    json.dumps(first)


def test_other_query_or_service_is_asked(tmp_path):
    service, cache = Service(), QueryCache(tmp_path)
    for question in (("tap", "SELECT 1"), ("tap", "SELECT 2"), ("other", "SELECT 1")):
        cache.get(*question, service)
    assert service.asked == 3
    assert len(list(tmp_path.iterdir())) == 3


def test_empty_answer_is_an_answer(tmp_path):
    service, cache = Service(TABLE[:0]), QueryCache(tmp_path)
    cache.get("tap", "SELECT 1", service)
    again = cache.get("tap", "SELECT 1", service)
    assert service.asked == 1
    assert list(again.columns) == list(TABLE.columns)
    assert again.empty


def test_fault_is_not_kept(tmp_path):
    cache = QueryCache(tmp_path)
    with pytest.raises(RuntimeError, match="out of order"):
        cache.get("tap", "SELECT 1", Service(RuntimeError("out of order")))
    assert not list(tmp_path.iterdir())
    assert len(cache.get("tap", "SELECT 1", Service())) == 2


def test_without_a_folder_nothing_is_kept(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    service, cache = Service(), QueryCache()
    for _ in range(2):
        assert cache.get("tap", "SELECT 1", service).attrs["query"]["cached"] is False
    assert service.asked == 2
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("damage", ["cut short", "not ours"])
def test_damaged_answer_is_named(tmp_path, damage):
    cache = QueryCache(tmp_path)
    cache.get("tap", "SELECT 1", Service())
    (path,) = tmp_path.iterdir()
    if damage == "cut short":
        path.write_bytes(path.read_bytes()[:50])
    else:
        TABLE.to_parquet(path)
    with pytest.raises(ValueError, match=rf"{path.name}: damaged .*delete it"):
        cache.get("tap", "SELECT 1", Service())


def test_cache_tells_what_it_holds_without_reading_it(tmp_path):
    cache = QueryCache(tmp_path)
    cache.get("tap", "SELECT 1", Service())
    next(tmp_path.iterdir()).write_bytes(b"")
    assert cache.holds("tap", "SELECT 1")
    assert not cache.holds("tap", "SELECT 2")
    assert not cache.holds("other", "SELECT 1")
    assert not QueryCache().holds("tap", "SELECT 1")


@pytest.mark.parametrize(("kept", "shown"), [(0, True), (1, True), (2, False)])
def test_progress_bar_shows_if_more_than_one_answer_is_new(tmp_path, capfd, kept, shown):
    cache = QueryCache(tmp_path)
    questions = [("tap", f"SELECT {i}") for i in range(3)]
    for question in questions[:kept]:
        cache.get(*question, Service())
    assert list(cache.progress_bar("abc", questions, "strip")) == list("abc")
    assert ("3/3" in capfd.readouterr().err) == shown


def test_one_query_is_described_in_the_singular(tmp_path):
    table = pd.DataFrame()
    table.attrs["queries"] = [QueryCache(tmp_path).get("tap", "SELECT 1", Service()).attrs["query"]]
    assert describe_queries(table) == "1 query of tap, 2 rows: 1 sent now"


def test_table_without_queries_says_so():
    assert describe_queries(pd.DataFrame()) == "no query was sent"


def test_write_that_fails_leaves_nothing(tmp_path):
    unwritable = pd.DataFrame({"A": [1, "one"]})
    with pytest.raises(Exception, match="A"):
        QueryCache(tmp_path).get("tap", "SELECT 1", Service(unwritable))
    assert not list(tmp_path.iterdir())


@settings(max_examples=20)
@given(rows=st.lists(st.tuples(st.floats(allow_nan=False), st.text(max_size=5)), max_size=10))
def test_answers_are_kept_as_they_came(tmp_path_factory, rows):
    table = pd.DataFrame(rows, columns=["number", "text"]).astype({"number": float, "text": str})
    folder = tmp_path_factory.mktemp("cache")
    QueryCache(folder).get("tap", "SELECT 1", Service(table))
    pd.testing.assert_frame_equal(QueryCache(folder).get("tap", "SELECT 1", Service()), table)

"""Answers of services kept on disk, so that no query is sent twice.

Each answer is a Parquet file that also holds its query, its service, the date and the number of rows.
Delete a file, or the folder, to have the service asked again.
"""

import hashlib
import os
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

RECORD = ("service", "query", "date", "rows")


class QueryCache:
    """A folder of answers.

    Parameters
    ----------
    directory : path-like, optional
        Made when the first answer is kept. Without it nothing is kept.
    """

    def __init__(self, directory=None):
        self.directory = None if directory is None else Path(directory)

    def get(self, service, query, ask):
        """Return the answer to a query: the one kept, or else a new one, which is then kept.

        Parameters
        ----------
        service : str
            What is asked, such as a URL.
        query : str
            The whole of the question; the same query has the same answer. No secrets: it is written down.
        ask : callable
            Asks the service; without arguments, returns a pandas.DataFrame.

        Returns
        -------
        pandas.DataFrame
            Its ``attrs["query"]`` has service, query, date (UTC, ISO 8601), rows and ``cached``: whether
            it was kept from before.

        Raises
        ------
        ValueError
            The file of the answer is damaged.
        """
        path = self._path(service, query)
        if path is not None and path.exists():
            return _with_record(_read(path), cached=True)
        table = ask()
        date = datetime.now(UTC).isoformat(timespec="seconds")
        table.attrs["query"] = {"service": service, "query": query, "date": date, "rows": len(table)}
        if path is not None:
            _write_whole(table, path)
        return _with_record(table, cached=False)

    def report(self):
        """Return what is kept: a DataFrame with the columns file, service, query, date and rows."""
        paths = sorted(self.directory.glob("*.parquet")) if self.directory else []
        rows = [{"file": path.name} | _read_record(path) for path in paths]
        return pd.DataFrame(rows, columns=["file", *RECORD])

    def _path(self, service, query):
        if self.directory is None:
            return None
        return self.directory / f"{hashlib.sha256(f'{service} {query}'.encode()).hexdigest()[:24]}.parquet"


def _with_record(table, cached):
    table.attrs["query"] = {**table.attrs["query"], "cached": cached}
    return table


def _read(path):
    try:
        return pd.read_parquet(path)
    except (OSError, pa.ArrowInvalid) as error:
        raise ValueError(f"{path}: damaged ({error}); delete it, and the service is asked again") from error


def _read_record(path):
    """Return the record of a file without reading its rows."""
    return pq.read_schema(path).empty_table().to_pandas().attrs["query"]


def _write_whole(table, path):
    """Write a table under its name, or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(f".{os.getpid()}.part")
    try:
        with open(partial, "wb") as file:
            table.to_parquet(file, index=False)
            os.fsync(file.fileno())
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)

"""Answers of services kept on disk, so that no query is sent twice.

Each answer is a Parquet file that also holds its query, its service, the date and the number of rows.
Delete a file, or the folder, to have the service asked again.
"""

import hashlib
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
import pyarrow as pa
from tqdm.auto import tqdm

from ztf_sg.files import atomic_write


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
        if self.holds(service, query):
            try:
                return _with_record(pd.read_parquet(path), cached=True)
            except (OSError, ValueError, KeyError, pa.ArrowException) as error:
                raise ValueError(
                    f"{path}: damaged ({error}); delete it, and the service is asked again"
                ) from error
        table = ask()
        date = datetime.now(UTC).isoformat(timespec="seconds")
        table.attrs["query"] = {"service": service, "query": query, "date": date, "rows": len(table)}
        if path is not None:
            with atomic_write(path) as file:
                table.to_parquet(file, index=False)
        return _with_record(table, cached=False)

    def holds(self, service, query):
        """Say whether the answer to a query is kept; parameters as of `get`."""
        path = self._path(service, query)
        return path is not None and path.exists()

    def progress_bar(self, parts, questions, unit, show=True):
        """Return the parts of some work under a progress bar, which shows if more than one needs a request.

        Parameters
        ----------
        parts : sequence
            To iterate over.
        questions : sequence of (str, str)
            Service and query for each part.
        unit : str
            What a part is.
        show : bool
            Whether the bar may show at all.
        """
        new = sum(not self.holds(*question) for question in questions)
        return tqdm(parts, unit=unit, disable=not show or new < 2)

    def _path(self, service, query):
        if self.directory is None:
            return None
        return self.directory / f"{hashlib.sha256(f'{service} {query}'.encode()).hexdigest()[:24]}.parquet"


def describe_queries(table):
    """Say on one line what a table from a service is made of: what was asked now, what had been kept.

    Parameters
    ----------
    table : pandas.DataFrame
        From ``query_region`` or ``crossmatch_gaia``.

    Returns
    -------
    str
        Such as "26 queries of https://datalab.noirlab.edu/tap, 200,123 rows: 26 from the cache of
        2026-11-25".
    """
    records = table.attrs.get("queries", [])
    if not records:
        return "no query was sent"
    services = sorted({record["service"] for record in records})
    days = sorted({record["date"][:10] for record in records if record["cached"]})
    kept = sum(record["cached"] for record in records)
    parts = [f"{len(records) - kept} sent now"] * (kept < len(records))
    parts += [f"{kept} from the cache of {' to '.join(sorted({days[0], days[-1]}))}"] if kept else []
    where = services[0] if len(services) == 1 else f"{len(services)} files"
    queries = "1 query" if len(records) == 1 else f"{len(records)} queries"
    return f"{queries} of {where}, {sum(record['rows'] for record in records):,} rows: {', '.join(parts)}"


def _with_record(table, cached):
    table.attrs["query"] = {**table.attrs["query"], "cached": cached}
    return table

"""Answers of services kept on disk, so that no query is sent twice.

Each answer is a Parquet file that also holds its query, its service, the date and the number of rows.
Delete a file, or the folder, to have the service asked again.
"""

import hashlib
from datetime import UTC, datetime
from uuid import uuid4

import pandas as pd
import pyarrow as pa
from tqdm.auto import tqdm

from ztf_sg.files import atomic_write, local_path


class QueryCache:
    """A folder of answers, made when the first one is kept; without `directory`, nothing is kept."""

    def __init__(self, directory=None):
        self.directory = None if directory is None else local_path(directory)

    def get(self, service, query, ask):
        """Return the answer to a query: the one kept, or else what ``ask()`` returns, which is then kept.

        The answer is a DataFrame, whose ``attrs["query"]`` has service, query, date (UTC, ISO 8601), rows and
        cached (bool: kept from before). The query is the whole of the question, without secrets, as it is
        written down. A ValueError names the file of an answer that is damaged.
        """
        path = self._path(service, query)
        if self.holds(service, query):
            try:
                table = pd.read_parquet(path)
                table.attrs["query"]["cached"] = True
            except (OSError, ValueError, KeyError, pa.ArrowException) as error:
                raise ValueError(
                    f"{path}: damaged ({error}); delete it, and the service is asked again"
                ) from error
            return table
        table = ask()
        date = datetime.now(UTC).isoformat(timespec="seconds")
        record = {"service": service, "query": query, "date": date, "rows": len(table), "cached": False}
        table.attrs["query"] = record
        if path is not None:
            # two processes may have the same question
            with atomic_write(path, path.with_name(f"{path.name}.{uuid4().hex}.part")) as file:
                table.to_parquet(file, index=False)
        return table

    def holds(self, service, query):
        """Say whether the answer to a query is kept."""
        path = self._path(service, query)
        return path is not None and path.exists()

    def progress_bar(self, parts, questions, unit):
        """Return a progress bar over the parts of some work, shown if several have a question that is new.

        A question is a pair of service and query; `unit` says what a part is.
        """
        new = sum(not self.holds(*question) for question in questions)
        return tqdm(parts, unit=unit, disable=new < 2)

    def _path(self, service, query):
        if self.directory is None:
            return None
        return self.directory / f"{hashlib.sha256(f'{service} {query}'.encode()).hexdigest()[:24]}.parquet"


def describe_queries(table):
    """Say on one line what a table from a service is made of: what was asked now, what had been kept.

    Parameters
    ----------
    table : pandas.DataFrame
        From ``query_region``, ``search_images`` or ``crossmatch_gaia``.

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

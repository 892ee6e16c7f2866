"""Jobs: inserted once under their id, run in a thread, asked for until they are done."""

from __future__ import annotations

import re
import threading
import time
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from support.bigquery_fake.errors import ApiError, unknown
from support.bigquery_fake.load import Target, check_load
from support.bigquery_fake.values import LEGACY, cells, parameter, type_of_arrow

if TYPE_CHECKING:
    import pyarrow as pa
    from support.bigquery_fake.catalog import Catalog
    from support.bigquery_fake.engine import Engine, Result
    from support.bigquery_fake.load import Loader

JOB_ID = re.compile(r"[A-Za-z0-9_\-]{1,1024}")
QUERY_KEYS = {
    "query", "useLegacySql", "parameterMode", "queryParameters", "defaultDataset", "priority",
    "useQueryCache", "maximumBytesBilled",
}  # fmt: skip
JOB_KEYS = {"query", "load", "labels", "jobType", "jobTimeoutMs"}
PAGE_ROWS = 10_000
LONGEST_POLL_SECONDS = 10.0


@dataclass
class Job:
    """One job; `done` is set when it has come to its end, well or not."""

    id: str
    location: str
    configuration: dict[str, Any]
    created_ms: int
    done: threading.Event = field(default_factory=threading.Event)
    error: ApiError | None = None
    result: Result | None = None
    statistics: dict[str, Any] = field(default_factory=dict)
    ended_ms: int = 0


class Jobs:
    """Every job there has been.

    Attributes:
        patience_seconds: how long an insert waits for the job's end before it answers RUNNING.
    """

    def __init__(self, catalog: Catalog, engine: Engine, loader: Loader) -> None:
        self._catalog, self._engine, self._loader = catalog, engine, loader
        self._jobs: dict[str, Job] = {}
        self._lock = threading.Lock()
        self.patience_seconds = 0.2

    def check(self, given: dict[str, Any], *, with_file: bool = False) -> None:
        """Refuse a configuration.

        Raises:
            ApiError: what is wrong with it.
        """
        configuration = given.get("configuration") or {}
        if extra := configuration.keys() - JOB_KEYS:
            raise unknown(f"{', '.join(sorted(extra))} of a job")
        if with_file and "load" not in configuration:
            raise ApiError("invalid", "Only a load job has a file of its own")
        if "load" in configuration:
            Target.parse(self._catalog, configuration["load"]["destinationTable"])
            check_load(configuration["load"], with_file=with_file)
        elif "query" in configuration:
            _check_query(configuration["query"])
        else:
            raise unknown("jobs that are neither queries nor loads")

    def insert(self, given: dict[str, Any], uploaded: bytes | None = None) -> dict[str, Any]:
        """`jobs.insert`.

        Args:
            given: the job.
            uploaded: the file that comes with it.

        Raises:
            ApiError: the configuration is refused, or there was a job of that id: `duplicate`, whatever
                became of it.
        """
        self.check(given, with_file=uploaded is not None)
        configuration = given["configuration"]
        reference = given.get("jobReference") or {}
        job_id = reference.get("jobId") or uuid.uuid4().hex
        if not JOB_ID.fullmatch(job_id):
            raise ApiError("invalid", f'Invalid job ID "{job_id}"')
        location = reference.get("location") or self._catalog.location
        with self._lock:
            if job_id in self._jobs:
                raise ApiError(
                    "duplicate", f"Already Exists: Job {self._catalog.project}:{location}.{job_id}"
                )
            job = self._jobs[job_id] = Job(job_id, location, configuration, self._catalog.now_ms())
        threading.Thread(target=self._run, args=(job, uploaded), daemon=True, name=f"job {job_id}").start()
        job.done.wait(self.patience_seconds)
        return self.answer(job)

    def get(self, job_id: str, location: str | None) -> Job:
        job = self._jobs.get(job_id)
        location = location or self._catalog.location
        if job is None or job.location.lower() != location.lower():
            raise ApiError("notFound", f"Not found: Job {self._catalog.project}:{location}.{job_id}")
        return job

    def all(self) -> list[Job]:
        return list(self._jobs.values())

    def answer(self, job: Job) -> dict[str, Any]:
        """The job as the API shows it."""
        status: dict[str, Any] = {"state": "DONE" if job.done.is_set() else "RUNNING"}
        if job.error:
            status |= {"errorResult": job.error.proto(), "errors": [job.error.proto()]}
        kind = "LOAD" if "load" in job.configuration else "QUERY"
        times = {"creationTime": str(job.created_ms), "startTime": str(job.created_ms)}
        if job.done.is_set():
            times["endTime"] = str(job.ended_ms)
        project = self._catalog.project
        return {
            "kind": "bigquery#job",
            "etag": uuid.uuid4().hex,
            "id": f"{project}:{job.location}.{job.id}",
            "jobReference": {"projectId": project, "jobId": job.id, "location": job.location},
            "configuration": {**job.configuration, "jobType": kind},
            "status": status,
            "statistics": {**times, **job.statistics},
            "user_email": "nobody@example.org",
        }

    def results(self, job: Job, asked: dict[str, str]) -> dict[str, Any]:
        """`jobs.getQueryResults`: waits, then a page of rows.

        Raises:
            ApiError: that of the job, if it has failed.
        """
        wait = min(int(asked.get("timeoutMs", 10_000)) / 1000, LONGEST_POLL_SECONDS)
        finished = job.done.wait(wait)
        reference = {"projectId": self._catalog.project, "jobId": job.id, "location": job.location}
        made: dict[str, Any] = {"kind": "bigquery#getQueryResultsResponse", "jobReference": reference}
        if not finished:
            return made | {"jobComplete": False}
        if job.error:
            raise job.error
        if job.result is None:
            raise ApiError("invalid", f"Cannot get query results of a job that is no query: {job.id}")
        made |= {"jobComplete": True, "cacheHit": False, "totalBytesProcessed": "0"}
        if job.result.affected is not None:
            made["numDmlAffectedRows"] = str(job.result.affected)
        if job.result.rows is None:
            return made | {"schema": {"fields": []}, "totalRows": "0"}
        return made | page(job.result.rows, asked)

    def _run(self, job: Job, uploaded: bytes | None) -> None:
        try:
            if "load" in job.configuration:
                job.statistics["load"] = self._loader.run(job.configuration["load"], uploaded)
            else:
                self._query(job)
        except ApiError as error:
            # Without the frames it came through, which hold on to connections.
            error.__cause__ = error.__context__ = None
            job.error = error.with_traceback(None)
        except Exception as error:  # noqa: BLE001 - a fault of the fake is to be seen by whoever asks
            job.error = ApiError("unknownToTheFake", f"the BigQuery fake failed: {error!r}")
        job.ended_ms = int(time.time() * 1000)
        job.done.set()

    def _query(self, job: Job) -> None:
        query = job.configuration["query"]
        parameters = dict(map(parameter, query.get("queryParameters") or ()))
        dataset = (query.get("defaultDataset") or {}).get("datasetId")
        job.result = self._engine.run(query["query"], parameters, dataset)
        told: dict[str, Any] = {"statementType": job.result.kind, "totalBytesProcessed": "0"}
        if job.result.affected is not None:
            told["numDmlAffectedRows"] = str(job.result.affected)
        job.statistics["query"] = told
        if job.result.children:
            job.statistics["numChildJobs"] = str(job.result.children)


def _check_query(given: dict[str, Any]) -> None:
    if extra := given.keys() - QUERY_KEYS:
        raise unknown(f"{', '.join(sorted(extra))} of a query")
    if given.get("useLegacySql", True):
        raise unknown("legacy SQL (which is what a query is in if useLegacySql is not false)")
    if given.get("queryParameters") and given.get("parameterMode") != "NAMED":
        raise unknown(f"the parameter mode {given.get('parameterMode')}")


def page(rows: pa.Table, asked: dict[str, str]) -> dict[str, Any]:
    """Schema, number of rows, and the page that was asked for."""
    kinds = [type_of_arrow(one.type) for one in rows.schema]
    fields = [
        {"name": name, "type": LEGACY.get(kind, kind), "mode": "NULLABLE"}
        for name, kind in zip(rows.column_names, kinds, strict=True)
    ]
    first = int(asked.get("pageToken") or asked.get("startIndex") or 0)
    part = rows.slice(first, int(asked.get("maxResults") or PAGE_ROWS))
    integers = asked.get("formatOptions.useInt64Timestamp", "").lower() == "true"
    columns = [
        cells(column, kind, int64_timestamps=integers)
        for column, kind in zip(part.columns, kinds, strict=True)
    ]
    made: dict[str, Any] = {
        "schema": {"fields": fields},
        "totalRows": str(rows.num_rows),
    }
    if (
        part.num_rows
    ):  # the server leaves it out if there are none, which clients understand as: ask for the page
        made["rows"] = [{"f": [{"v": value} for value in row]} for row in zip(*columns, strict=True)]
    if part.num_rows and first + part.num_rows < rows.num_rows:
        made["pageToken"] = str(first + part.num_rows)
    return made

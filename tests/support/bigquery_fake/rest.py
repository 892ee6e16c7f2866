"""The REST half: paths of https://cloud.google.com/bigquery/docs/reference/rest/v2 and their answers."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

from support.bigquery_fake.catalog import TABLE_KEYS, Field, Table
from support.bigquery_fake.errors import ApiError, unknown
from support.bigquery_fake.jobs import page
from support.bigquery_fake.uploads import Uploads, multipart

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from support.bigquery_fake.server import BigQueryFake

Answer: TypeAlias = "dict[str, Any]"


@dataclass(frozen=True)
class Ask:
    """A call.

    Attributes:
        query: of its URL.
        body: as JSON.
        dataset, table, job: in its path.
        etag: version that it is meant for.
        headers: in small letters.
        content: the body as it came.
    """

    query: dict[str, str]
    body: dict[str, Any]
    dataset: str = ""
    table: str = ""
    job: str = ""
    etag: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    content: bytes = b""


@dataclass(frozen=True)
class Reply:
    """An answer that is more than a body."""

    status: int
    headers: dict[str, str] = field(default_factory=dict)


class Rest:
    """Answers each call."""

    def __init__(self, fake: BigQueryFake) -> None:
        self._fake, self._catalog, self._jobs = fake, fake.catalog, fake.jobs
        self._uploads = Uploads()

    def answer(self, name: str, project: str, ask: Ask) -> Answer | Reply | None:
        if project != self._catalog.project:
            raise ApiError(
                "accessDenied", f"Access Denied: Project {project}: no permission, or no such project"
            )
        handler: Callable[[Ask], Answer | Reply | None] = getattr(self, name.replace(".", "_"))
        return handler(ask)

    def datasets_list(self, ask: Ask) -> Answer:  # noqa: ARG002
        return {"kind": "bigquery#datasetList", "datasets": list(map(self._dataset, self._catalog.datasets))}

    def datasets_insert(self, ask: Ask) -> Answer:
        name = ask.body["datasetReference"]["datasetId"]
        self._catalog.create_dataset(name, ask.body)
        return self._dataset(name)

    def datasets_get(self, ask: Ask) -> Answer:
        return self._dataset(ask.dataset)

    def datasets_delete(self, ask: Ask) -> None:
        self._catalog.drop_dataset(ask.dataset, with_tables=ask.query.get("deleteContents") == "true")

    def tables_list(self, ask: Ask) -> Answer:
        tables = [self._table(one, rows=False) for one in self._catalog.tables(ask.dataset)]
        return {"kind": "bigquery#tableList", "tables": tables, "totalItems": len(tables)}

    def tables_insert(self, ask: Ask) -> Answer:
        reference = ask.body["tableReference"]
        if reference["datasetId"] != ask.dataset:
            raise ApiError("invalid", "The dataset of the path and of the table differ")
        return self._table(
            self._catalog.create(Table(ask.dataset, reference["tableId"], **_properties(ask.body)))
        )

    def tables_get(self, ask: Ask) -> Answer:
        return self._table(self._catalog.table(ask.dataset, ask.table))

    def tables_patch(self, ask: Ask) -> Answer:
        with self._catalog.lock:
            found = self._catalog.table(ask.dataset, ask.table)
            if ask.etag and ask.etag != found.etag:
                raise ApiError("conditionNotMet", "Precondition check failed.")
            changes = _properties(ask.body)
            if "extra" in changes:
                changes["extra"] = {**found.extra, **changes["extra"]}
            return self._table(self._catalog.change(found, **changes))

    def tables_delete(self, ask: Ask) -> None:
        self._catalog.drop(self._catalog.table(ask.dataset, ask.table))

    def tabledata_list(self, ask: Ask) -> Answer:
        found = self._catalog.table(ask.dataset, ask.table)
        names = ask.query["selectedFields"].split(",") if ask.query.get("selectedFields") else None
        names = names or [one.name for one in found.fields]
        return page(self._fake.rows(found, names), ask.query)

    def jobs_insert(self, ask: Ask) -> Answer:
        return self._jobs.insert(ask.body)

    def jobs_upload(self, ask: Ask) -> Answer | Reply:
        """`jobs.insert` with a file: the job and the file at once, or the job alone and then the file."""
        match ask.query.get("uploadType"):
            case "multipart":
                job, file = multipart(ask.content, ask.headers.get("content-type", ""))
                return self._jobs.insert(job, file)
            case "resumable":
                self._jobs.check(ask.body, with_file=True)
                upload_id = self._uploads.begin(ask.body, ask.headers)
                path = f"/upload/bigquery/v2/projects/{self._catalog.project}/jobs"
                where = f"{self._fake.rest_url}{path}?uploadType=resumable&upload_id={upload_id}"
                return Reply(200, {"Location": where})
            case other:
                raise unknown(f"the upload type {other}")

    def jobs_uploadChunk(self, ask: Ask) -> Answer | Reply:  # noqa: N802 - as the names of the API
        found = self._uploads.put(ask.query["upload_id"], ask.headers, ask.content)
        if isinstance(found, int):
            return Reply(308, {"Range": f"bytes=0-{found - 1}"} if found else {})
        return self._jobs.insert(found.job, bytes(found.content))

    def jobs_list(self, ask: Ask) -> Answer:  # noqa: ARG002
        return {"kind": "bigquery#jobList", "jobs": list(map(self._jobs.answer, self._jobs.all()))}

    def jobs_get(self, ask: Ask) -> Answer:
        return self._jobs.answer(self._jobs.get(ask.job, ask.query.get("location")))

    def jobs_getQueryResults(self, ask: Ask) -> Answer:  # noqa: N802 - the API's name
        return self._jobs.results(self._jobs.get(ask.job, ask.query.get("location")), ask.query)

    def jobs_query(self, ask: Ask) -> Answer:
        ours = {
            "timeoutMs",
            "maxResults",
            "requestId",
            "formatOptions",
            "location",
            "jobCreationMode",
            "kind",
        }
        query = {key: value for key, value in ask.body.items() if key not in ours}
        reference = {"location": ask.body.get("location"), "jobId": uuid.uuid4().hex}
        self._jobs.insert({"configuration": {"query": query}, "jobReference": reference})
        told = {
            "timeoutMs": str(ask.body.get("timeoutMs", 10_000)),
            "maxResults": str(ask.body.get("maxResults") or ""),
        }
        integers = str((ask.body.get("formatOptions") or {}).get("useInt64Timestamp", ""))
        told["formatOptions.useInt64Timestamp"] = integers
        return self._jobs.results(self._jobs.get(reference["jobId"], reference["location"]), told)

    def _dataset(self, name: str) -> dict[str, Any]:
        found = self._catalog.dataset(name)
        reference = {"projectId": self._catalog.project, "datasetId": name}
        identity = {"kind": "bigquery#dataset", "id": f"{self._catalog.project}:{name}"}
        return {**found, **identity, "datasetReference": reference}

    def _table(self, table: Table, *, rows: bool = True) -> dict[str, Any]:
        project = self._catalog.project
        made: dict[str, Any] = {
            **table.extra,
            "kind": "bigquery#table",
            "etag": table.etag,
            "id": f"{project}:{table.dataset}.{table.name}",
            "tableReference": {"projectId": project, "datasetId": table.dataset, "tableId": table.name},
            "schema": {"fields": [one.answer() for one in table.fields]},
            "type": "VIEW" if table.is_view else "TABLE",
            "creationTime": str(table.created_ms),
            "lastModifiedTime": str(table.modified_ms),
            "location": self._catalog.datasets[table.dataset]["location"],
        }
        if rows and not table.is_view:
            made["numRows"] = str(self._fake.count(table))
        if table.partitioning:
            made["timePartitioning"] = table.partitioning
        if table.clustering:
            made["clustering"] = {"fields": list(table.clustering)}
        if table.expires_ms is not None:
            made["expirationTime"] = str(table.expires_ms)
        return made


def _properties(body: dict[str, Any]) -> dict[str, Any]:
    """Those of a `Table` that stand in a body."""
    if extra := body.keys() - TABLE_KEYS:
        raise unknown(f"{', '.join(sorted(extra))} of a table")
    made: dict[str, Any] = {}
    if body.get("schema"):
        made["fields"] = tuple(map(Field.parse, body["schema"].get("fields") or ()))
    if body.get("timePartitioning"):
        made["partitioning"] = body["timePartitioning"]
    if body.get("clustering"):
        made["clustering"] = tuple(body["clustering"]["fields"])
    if "expirationTime" in body:
        made["expires_ms"] = None if body["expirationTime"] is None else int(body["expirationTime"])
    if extra := {k: body[k] for k in ("labels", "description", "friendlyName") if body.get(k)}:
        made["extra"] = extra
    return made

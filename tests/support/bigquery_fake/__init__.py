"""A strict BigQuery for tests. See `server.BigQueryFake`."""

from support.bigquery_fake.server import BigQueryFake

__all__ = ["BigQueryFake"]

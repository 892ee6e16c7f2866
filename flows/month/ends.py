"""From where to where `gcs-to-bq` brings a month; apart, because its `--help` needs no more."""

BUCKET, WAREHOUSE = "gcs", "bigquery"

"""Source and target of `gcs-to-bq`, in a module of their own so that `--help` imports nothing else."""

BUCKET, WAREHOUSE = "gcs", "bigquery"

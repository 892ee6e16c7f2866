"""Fixtures that every test may ask for."""

pytest_plugins = [
    "support.web",
    "support.cli",
    "support.postgres",
    "support.prefect_server",
    "support.deployed",
    "support.browser",
    "support.dask_cluster",
    "support.pool_workers",
    "support.loaded",
    "support.gcs",
    "support.bigquery",
    "support.bqemulator",
]

"""Fixtures that every test may ask for."""

pytest_plugins = ["support.web", "support.postgres", "support.prefect_server"]

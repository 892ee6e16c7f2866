"""What an operator runs: the Prefect flows, and below them the engine that does the work."""

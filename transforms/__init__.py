"""Pure transforms and dataset declarations: lazy frame in, lazy frame out, no I/O, no Prefect."""

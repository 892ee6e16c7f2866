"""DuckDB alone: python with_duckdb.py URL ..., with the columns' types as JSON in COLUMNS.

The files are fetched first, because the extension httpfs is a download of its own. One INSERT from all files
took less than one for each.
"""

import json
import os
import sys
from urllib.request import urlretrieve

import duckdb

types = json.loads(os.environ["COLUMNS"])
files = [urlretrieve(url, url.rpartition("/")[2])[0] for url in sys.argv[1:]]
columns = ", ".join(f'"{name}" {kind}' for name, kind in types.items())
with duckdb.connect("rival.duckdb") as connection:
    connection.execute(f"CREATE TABLE rival ({columns})")
    read = f"read_csv({files}, header = true, columns = {types})"
    connection.execute(f"INSERT INTO rival SELECT * FROM {read}")

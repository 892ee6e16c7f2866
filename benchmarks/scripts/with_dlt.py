"""dlt at its fastest: python with_dlt.py URL ..., with DATABASE and the columns' types as JSON in COLUMNS.

pyarrow's CSV reader is told the types, and its Arrow goes as Parquet to dlt's own ADBC loader. Reading from
the URL took less than fetching the file first; a parallel resource for each month gained nothing.
"""

import json
import os
import sys
from collections.abc import Iterator
from urllib.request import urlopen

import dlt
import pyarrow as pa
from pyarrow import csv

types = {name: pa.type_for_alias(kind) for name, kind in json.loads(os.environ["COLUMNS"]).items()}
convert = csv.ConvertOptions(column_types=types, strings_can_be_null=True)


@dlt.resource(name="trips", write_disposition="replace")
def trips() -> Iterator[pa.RecordBatch]:
    """Every month, batch by batch."""
    for url in sys.argv[1:]:
        with pa.input_stream(pa.PythonFile(urlopen(url)), compression="gzip") as stream:
            yield from csv.open_csv(
                stream, read_options=csv.ReadOptions(block_size=16 << 20), convert_options=convert
            )


pipeline = dlt.pipeline(
    "rival",
    pipelines_dir="dlt",
    destination=dlt.destinations.postgres(credentials=os.environ["DATABASE"]),
    dataset_name="rival",
    progress=None,
)
pipeline.run(trips(), loader_file_format="parquet").raise_on_failed_jobs()

"""The tutorial's script for one month: python tutorial.py URL ROWS; DATABASE is in the environment."""

import os
import sys

import pandas as pd
from sqlalchemy import create_engine

url, rows = sys.argv[1], int(sys.argv[2])
engine = create_engine(os.environ["DATABASE"].replace("postgresql://", "postgresql+psycopg2://"))
os.system(f"curl -sf {url} -o output.csv.gz")
# `nrows` is all that is added: all rows would take minutes.
frames = pd.read_csv("output.csv.gz", iterator=True, chunksize=100_000, nrows=rows, low_memory=False)
frame = next(frames)
while True:
    frame.tpep_pickup_datetime = pd.to_datetime(frame.tpep_pickup_datetime)
    frame.tpep_dropoff_datetime = pd.to_datetime(frame.tpep_dropoff_datetime)
    if not frame.index[0]:
        frame.head(n=0).to_sql(name="rival", con=engine, if_exists="replace")
    frame.to_sql(name="rival", con=engine, if_exists="append")
    try:
        frame = next(frames)
    except StopIteration:
        break

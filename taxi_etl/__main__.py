"""`python -m taxi_etl` is the program `taxi-etl`."""

from taxi_etl import main

main()

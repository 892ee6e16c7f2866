"""High-volume for-hire vehicle trips: Uber, Lyft, Via, Juno."""

from transforms.dataset import Column, ColumnType, Dataset

# The CSV files have seven columns; the Parquet files, which the TLC has also remade for the first
# years, have the rest. `since` therefore speaks of the files that have both forms.
FHVHV = Dataset(
    name="fhvhv",
    title="High-volume for-hire vehicle trips",
    first_month="2019-02",
    pickup="pickup_datetime",
    dropoff="dropoff_datetime",
    columns=(
        Column("hvfhs_license_num", ColumnType.TEXT, "HV0002 Juno, HV0003 Uber, HV0004 Via, HV0005 Lyft"),
        Column("dispatching_base_num", ColumnType.TEXT, "licence of the base that sent the car"),
        Column("originating_base_num", ColumnType.TEXT, "base that took the request", since="2021-08"),
        Column("request_datetime", ColumnType.TIMESTAMP, "passenger's request", since="2021-08"),
        Column("on_scene_datetime", ColumnType.TIMESTAMP, "driver arrived", since="2021-08"),
        Column("pickup_datetime", ColumnType.TIMESTAMP, "start of the trip, New York time", required=True),
        Column("dropoff_datetime", ColumnType.TIMESTAMP, "end of the trip, New York time"),
        Column("PULocationID", ColumnType.INTEGER, "taxi zone of the pick-up"),
        Column("DOLocationID", ColumnType.INTEGER, "taxi zone of the drop-off"),
        Column("SR_Flag", ColumnType.INTEGER, "1: shared ride, else empty; CSV files only", until="2021-07"),
        Column("trip_miles", ColumnType.FLOAT, "miles", since="2021-08"),
        Column("trip_time", ColumnType.INTEGER, "seconds", since="2021-08"),
        Column("base_passenger_fare", ColumnType.FLOAT, "US dollars before tolls and tips", since="2021-08"),
        Column("tolls", ColumnType.FLOAT, "US dollars", since="2021-08"),
        Column("bcf", ColumnType.FLOAT, "US dollars, Black Car Fund", since="2021-08"),
        Column("sales_tax", ColumnType.FLOAT, "US dollars", since="2021-08"),
        Column("congestion_surcharge", ColumnType.FLOAT, "US dollars, state surcharge", since="2021-08"),
        Column("airport_fee", ColumnType.FLOAT, "US dollars, all three airports", since="2021-08"),
        Column("tips", ColumnType.FLOAT, "US dollars", since="2021-08"),
        Column("driver_pay", ColumnType.FLOAT, "US dollars without tolls and tips", since="2021-08"),
        Column("shared_request_flag", ColumnType.TEXT, "Y: agreed to share", since="2021-08"),
        Column("shared_match_flag", ColumnType.TEXT, "Y: did share", since="2021-08"),
        Column("access_a_ride_flag", ColumnType.TEXT, "Y: for the MTA", since="2021-08"),
        Column("wav_request_flag", ColumnType.TEXT, "Y: wheelchair car asked for", since="2021-08"),
        Column("wav_match_flag", ColumnType.TEXT, "Y: wheelchair car came", since="2021-08"),
        Column("cbd_congestion_fee", ColumnType.FLOAT, "US dollars, MTA zone", since="2025-01"),
    ),
)

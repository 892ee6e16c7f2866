"""Green taxi trips: street hails outside Manhattan's core."""

from transforms.dataset import Column, ColumnType, Dataset
from transforms.historic_columns import COORDINATES

GREEN = Dataset(
    name="green",
    title="Green taxi trips",
    first_month="2013-08",
    pickup="lpep_pickup_datetime",
    dropoff="lpep_dropoff_datetime",
    columns=(
        Column("VendorID", ColumnType.INTEGER, "provider of the record: 1 Creative Mobile, 2 Curb, 6"),
        Column("lpep_pickup_datetime", ColumnType.TIMESTAMP, "meter on, New York time", required=True),
        Column("lpep_dropoff_datetime", ColumnType.TIMESTAMP, "meter off, New York time"),
        Column("store_and_fwd_flag", ColumnType.TEXT, "Y: held in the vehicle before it was sent"),
        Column("RatecodeID", ColumnType.INTEGER, "final rate: 1 standard ... 6 group ride, 99 unknown"),
        Column("PULocationID", ColumnType.INTEGER, "taxi zone of the pick-up"),
        Column("DOLocationID", ColumnType.INTEGER, "taxi zone of the drop-off"),
        Column("passenger_count", ColumnType.INTEGER, "passengers, entered by the driver"),
        Column("trip_distance", ColumnType.FLOAT, "miles by the taximeter"),
        Column("fare_amount", ColumnType.FLOAT, "US dollars, time and distance"),
        Column("extra", ColumnType.FLOAT, "US dollars, rush hour and overnight"),
        Column("mta_tax", ColumnType.FLOAT, "US dollars"),
        Column("tip_amount", ColumnType.FLOAT, "US dollars, card tips only"),
        Column("tolls_amount", ColumnType.FLOAT, "US dollars"),
        Column("ehail_fee", ColumnType.FLOAT, "US dollars; empty in every file so far"),
        Column("improvement_surcharge", ColumnType.FLOAT, "US dollars", since="2015-01"),
        Column("total_amount", ColumnType.FLOAT, "US dollars, without cash tips"),
        Column("payment_type", ColumnType.INTEGER, "0 flex, 1 card, 2 cash, 3 no charge, 4 dispute ..."),
        Column("trip_type", ColumnType.INTEGER, "1 street hail, 2 dispatch"),
        Column("congestion_surcharge", ColumnType.FLOAT, "US dollars, state surcharge", since="2019-01"),
        Column("cbd_congestion_fee", ColumnType.FLOAT, "US dollars, MTA zone", since="2025-01"),
    ),
    historic=COORDINATES,
)

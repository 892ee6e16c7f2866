"""Yellow taxi trips: street hails in all of New York."""

from transforms.dataset import Column, ColumnType, Dataset

YELLOW = Dataset(
    name="yellow",
    title="Yellow taxi trips",
    first_month="2009-01",
    pickup="tpep_pickup_datetime",
    dropoff="tpep_dropoff_datetime",
    columns=(
        Column("VendorID", ColumnType.INTEGER, "provider of the record: 1 Creative Mobile, 2 Curb, 6, 7"),
        Column("tpep_pickup_datetime", ColumnType.TIMESTAMP, "meter on, New York time", required=True),
        Column("tpep_dropoff_datetime", ColumnType.TIMESTAMP, "meter off, New York time"),
        Column("passenger_count", ColumnType.INTEGER, "passengers, entered by the driver"),
        Column("trip_distance", ColumnType.FLOAT, "miles by the taximeter"),
        Column("RatecodeID", ColumnType.INTEGER, "final rate: 1 standard ... 6 group ride, 99 unknown"),
        Column("store_and_fwd_flag", ColumnType.TEXT, "Y: held in the vehicle before it was sent"),
        Column("PULocationID", ColumnType.INTEGER, "taxi zone of the pick-up"),
        Column("DOLocationID", ColumnType.INTEGER, "taxi zone of the drop-off"),
        Column("payment_type", ColumnType.INTEGER, "0 flex, 1 card, 2 cash, 3 no charge, 4 dispute ..."),
        Column("fare_amount", ColumnType.FLOAT, "US dollars, time and distance"),
        Column("extra", ColumnType.FLOAT, "US dollars, rush hour and overnight"),
        Column("mta_tax", ColumnType.FLOAT, "US dollars"),
        Column("tip_amount", ColumnType.FLOAT, "US dollars, card tips only"),
        Column("tolls_amount", ColumnType.FLOAT, "US dollars"),
        Column("improvement_surcharge", ColumnType.FLOAT, "US dollars"),
        Column("total_amount", ColumnType.FLOAT, "US dollars, without cash tips"),
        Column("congestion_surcharge", ColumnType.FLOAT, "US dollars, state surcharge", since="2019-01"),
        Column("airport_fee", ColumnType.FLOAT, "US dollars, LaGuardia and JFK", since="2022-01"),
        Column("cbd_congestion_fee", ColumnType.FLOAT, "US dollars, MTA zone", since="2025-01"),
    ),
)

"""Yellow taxi trips: street hails in all of New York."""

from transforms.dataset import Column, ColumnType, Dataset
from transforms.historic_columns import COORDINATES, PAYMENT_CODES, VENDOR_CODES

YELLOW = Dataset(
    name="yellow",
    title="Yellow taxi trips",
    first_month="2009-01",
    pickup="tpep_pickup_datetime",
    dropoff="tpep_dropoff_datetime",
    columns=(
        Column(
            "VendorID",
            ColumnType.INTEGER,
            "provider of the record: 1 Creative Mobile, 2 Curb, 6, 7",
            aliases=("vendor_id", "vendor_name"),
            codes=VENDOR_CODES,
        ),
        Column(
            "tpep_pickup_datetime",
            ColumnType.TIMESTAMP,
            "meter on, New York time",
            aliases=("pickup_datetime", "Trip_Pickup_DateTime"),
            required=True,
        ),
        Column(
            "tpep_dropoff_datetime",
            ColumnType.TIMESTAMP,
            "meter off, New York time",
            aliases=("dropoff_datetime", "Trip_Dropoff_DateTime"),
        ),
        Column("passenger_count", ColumnType.INTEGER, "passengers, entered by the driver"),
        Column("trip_distance", ColumnType.FLOAT, "miles by the taximeter"),
        Column(
            "RatecodeID",
            ColumnType.INTEGER,
            "final rate: 1 standard ... 6 group ride, 99 unknown",
            aliases=("rate_code",),
        ),
        Column(
            "store_and_fwd_flag",
            ColumnType.TEXT,
            "Y: held in the vehicle before it was sent",
            aliases=("store_and_forward",),
        ),
        Column("PULocationID", ColumnType.INTEGER, "taxi zone of the pick-up"),
        Column("DOLocationID", ColumnType.INTEGER, "taxi zone of the drop-off"),
        Column(
            "payment_type",
            ColumnType.INTEGER,
            "0 flex, 1 card, 2 cash, 3 no charge, 4 dispute ...",
            codes=PAYMENT_CODES,
        ),
        Column("fare_amount", ColumnType.FLOAT, "US dollars, time and distance", aliases=("Fare_Amt",)),
        Column("extra", ColumnType.FLOAT, "US dollars, rush hour and overnight", aliases=("surcharge",)),
        Column("mta_tax", ColumnType.FLOAT, "US dollars"),
        Column("tip_amount", ColumnType.FLOAT, "US dollars, card tips only", aliases=("Tip_Amt",)),
        Column("tolls_amount", ColumnType.FLOAT, "US dollars", aliases=("Tolls_Amt",)),
        Column("improvement_surcharge", ColumnType.FLOAT, "US dollars", since="2015-01"),
        Column("total_amount", ColumnType.FLOAT, "US dollars, without cash tips", aliases=("Total_Amt",)),
        Column("congestion_surcharge", ColumnType.FLOAT, "US dollars, state surcharge", since="2019-01"),
        Column("airport_fee", ColumnType.FLOAT, "US dollars, LaGuardia and JFK", since="2022-01"),
        Column("cbd_congestion_fee", ColumnType.FLOAT, "US dollars, MTA zone", since="2025-01"),
    ),
    historic=COORDINATES,
    proof="total_amount",
)

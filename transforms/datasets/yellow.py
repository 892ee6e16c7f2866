"""Yellow taxi trips: street hails in all of New York."""

from transforms.column import FLOAT, INTEGER, TEXT, TIMESTAMP, Column
from transforms.dataset import Dataset
from transforms.historic_columns import COORDINATES, PAYMENT_CODES, PAYMENT_DESCRIPTION, VENDOR_CODES

YELLOW = Dataset(
    name="yellow",
    title="Yellow taxi trips",
    first_month="2009-01",
    pickup="tpep_pickup_datetime",
    dropoff="tpep_dropoff_datetime",
    columns=(
        Column(
            "VendorID",
            INTEGER,
            "Provider of the record: 1 Creative Mobile, 2 Curb, 6, 7",
            aliases=("vendor_id", "vendor_name"),
            codes=VENDOR_CODES,
        ),
        Column(
            "tpep_pickup_datetime",
            TIMESTAMP,
            "Meter on, New York time",
            aliases=("pickup_datetime", "Trip_Pickup_DateTime"),
            required=True,
        ),
        Column(
            "tpep_dropoff_datetime",
            TIMESTAMP,
            "Meter off, New York time",
            aliases=("dropoff_datetime", "Trip_Dropoff_DateTime"),
        ),
        Column("passenger_count", INTEGER, "Passengers, entered by the driver", unit="count"),
        Column("trip_distance", FLOAT, "Distance by the taximeter", unit="mile"),
        Column(
            "RatecodeID",
            INTEGER,
            "Final rate: 1 standard ... 6 group ride, 99 unknown",
            aliases=("rate_code",),
        ),
        Column(
            "store_and_fwd_flag",
            TEXT,
            "Y: held in the vehicle before it was sent",
            aliases=("store_and_forward",),
        ),
        Column("PULocationID", INTEGER, "Taxi zone of the pick-up"),
        Column("DOLocationID", INTEGER, "Taxi zone of the drop-off"),
        Column("payment_type", INTEGER, PAYMENT_DESCRIPTION, codes=PAYMENT_CODES),
        Column("fare_amount", FLOAT, "Fare for time and distance", unit="USD", aliases=("Fare_Amt",)),
        Column("extra", FLOAT, "Rush hour and overnight surcharges", unit="USD", aliases=("surcharge",)),
        Column("mta_tax", FLOAT, "MTA tax", unit="USD"),
        Column("tip_amount", FLOAT, "Tip, paid by card only", unit="USD", aliases=("Tip_Amt",)),
        Column("tolls_amount", FLOAT, "Tolls", unit="USD", aliases=("Tolls_Amt",)),
        Column("improvement_surcharge", FLOAT, "Improvement surcharge", unit="USD", since="2015-01"),
        Column("total_amount", FLOAT, "Total without cash tips", unit="USD", aliases=("Total_Amt",)),
        Column("congestion_surcharge", FLOAT, "State congestion surcharge", unit="USD", since="2019-01"),
        Column("airport_fee", FLOAT, "Airport fee, LaGuardia and JFK", unit="USD", since="2022-01"),
        Column("cbd_congestion_fee", FLOAT, "MTA congestion zone fee", unit="USD", since="2025-01"),
    ),
    historic=COORDINATES,
    distinguishing_column="total_amount",
)

"""Green taxi trips: street hails outside Manhattan's core."""

from transforms.column import FLOAT, INTEGER, TEXT, TIMESTAMP, Column
from transforms.dataset import Dataset
from transforms.historic_columns import COORDINATES, PAYMENT_DESCRIPTION

GREEN = Dataset(
    name="green",
    title="Green taxi trips",
    first_month="2013-08",
    pickup="lpep_pickup_datetime",
    dropoff="lpep_dropoff_datetime",
    columns=(
        Column("VendorID", INTEGER, "Provider of the record: 1 Creative Mobile, 2 Curb, 6"),
        Column("lpep_pickup_datetime", TIMESTAMP, "Meter on, New York time", required=True),
        Column("lpep_dropoff_datetime", TIMESTAMP, "Meter off, New York time"),
        Column("store_and_fwd_flag", TEXT, "Y: held in the vehicle before it was sent"),
        Column("RatecodeID", INTEGER, "Final rate: 1 standard ... 6 group ride, 99 unknown"),
        Column("PULocationID", INTEGER, "Taxi zone of the pick-up"),
        Column("DOLocationID", INTEGER, "Taxi zone of the drop-off"),
        Column("passenger_count", INTEGER, "Passengers, entered by the driver", unit="count"),
        Column("trip_distance", FLOAT, "Distance by the taximeter", unit="mile"),
        Column("fare_amount", FLOAT, "Fare for time and distance", unit="USD"),
        Column("extra", FLOAT, "Rush hour and overnight surcharges", unit="USD"),
        Column("mta_tax", FLOAT, "MTA tax", unit="USD"),
        Column("tip_amount", FLOAT, "Tip, paid by card only", unit="USD"),
        Column("tolls_amount", FLOAT, "Tolls", unit="USD"),
        Column("ehail_fee", FLOAT, "E-hail fee, empty in every file so far", unit="USD"),
        Column("improvement_surcharge", FLOAT, "Improvement surcharge", unit="USD", since="2015-01"),
        Column("total_amount", FLOAT, "Total without cash tips", unit="USD"),
        Column("payment_type", INTEGER, PAYMENT_DESCRIPTION),
        Column("trip_type", INTEGER, "Way of hailing: 1 street hail, 2 dispatch"),
        Column("congestion_surcharge", FLOAT, "State congestion surcharge", unit="USD", since="2019-01"),
        Column("cbd_congestion_fee", FLOAT, "MTA congestion zone fee", unit="USD", since="2025-01"),
    ),
    historic=COORDINATES,
)

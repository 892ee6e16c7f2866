"""High-volume for-hire vehicle trips: Uber, Lyft, Via, Juno."""

from transforms.column import FLOAT, INTEGER, TEXT, TIMESTAMP, Column
from transforms.dataset import Dataset

# The CSV files have seven columns; the Parquet files, which the TLC has also rewritten for the first years,
# have all but SR_Flag. `since` therefore refers to the months that were published in both formats.
FHVHV = Dataset(
    name="fhvhv",
    title="High-volume for-hire vehicle trips",
    first_month="2019-02",
    pickup="pickup_datetime",
    dropoff="dropoff_datetime",
    columns=(
        Column("hvfhs_license_num", TEXT, "Company: HV0002 Juno, HV0003 Uber, HV0004 Via, HV0005 Lyft"),
        Column("dispatching_base_num", TEXT, "Licence of the base that sent the car"),
        Column("originating_base_num", TEXT, "Licence of the base that took the request", since="2021-08"),
        Column("request_datetime", TIMESTAMP, "Passenger's request, New York time", since="2021-08"),
        Column("on_scene_datetime", TIMESTAMP, "Driver's arrival, New York time", since="2021-08"),
        Column("pickup_datetime", TIMESTAMP, "Start of the trip, New York time", required=True),
        Column("dropoff_datetime", TIMESTAMP, "End of the trip, New York time"),
        Column("PULocationID", INTEGER, "Taxi zone of the pick-up"),
        Column("DOLocationID", INTEGER, "Taxi zone of the drop-off"),
        Column("SR_Flag", INTEGER, "Shared ride: 1, else empty; CSV files only", until="2021-07"),
        Column("trip_miles", FLOAT, "Distance of the trip", unit="mile", since="2021-08"),
        Column("trip_time", INTEGER, "Duration of the trip", unit="second", since="2021-08"),
        Column("base_passenger_fare", FLOAT, "Fare before tolls and tips", unit="USD", since="2021-08"),
        Column("tolls", FLOAT, "Tolls", unit="USD", since="2021-08"),
        Column("bcf", FLOAT, "Contribution to the Black Car Fund", unit="USD", since="2021-08"),
        Column("sales_tax", FLOAT, "Sales tax", unit="USD", since="2021-08"),
        Column("congestion_surcharge", FLOAT, "State congestion surcharge", unit="USD", since="2021-08"),
        Column("airport_fee", FLOAT, "Airport fee, all three airports", unit="USD", since="2021-08"),
        Column("tips", FLOAT, "Tips", unit="USD", since="2021-08"),
        Column("driver_pay", FLOAT, "Driver's pay without tolls and tips", unit="USD", since="2021-08"),
        Column("shared_request_flag", TEXT, "Y: passenger agreed to share", since="2021-08"),
        Column("shared_match_flag", TEXT, "Y: passenger did share", since="2021-08"),
        Column("access_a_ride_flag", TEXT, "Y: on behalf of the MTA", since="2021-08"),
        Column("wav_request_flag", TEXT, "Y: wheelchair-accessible car requested", since="2021-08"),
        Column("wav_match_flag", TEXT, "Y: wheelchair-accessible car provided", since="2021-08"),
        Column("cbd_congestion_fee", FLOAT, "MTA congestion zone fee", unit="USD", since="2025-01"),
    ),
)

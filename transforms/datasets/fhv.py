"""For-hire vehicle trips: black cars, livery and luxury limousines, as their bases report them."""

from transforms.column import INTEGER, TEXT, TIMESTAMP, Column
from transforms.dataset import Dataset

FHV = Dataset(
    name="fhv",
    title="For-hire vehicle trips",
    first_month="2015-01",
    pickup="pickup_datetime",
    dropoff="dropoff_datetime",
    columns=(
        # Files of 2018 have both spellings, and the value in the first of them.
        Column(
            "dispatching_base_num",
            TEXT,
            "Licence of the base that sent the car",
            aliases=("Dispatching_base_number",),
            is_merged=True,
        ),
        Column(
            "pickup_datetime",
            TIMESTAMP,
            "Start of the trip, New York time",
            aliases=("Pickup_date",),
            required=True,
        ),
        # Released as dropOff_datetime in some years and dropoff_datetime in others.
        Column("dropoff_datetime", TIMESTAMP, "End of the trip, New York time", since="2017-01"),
        Column("PULocationID", INTEGER, "Taxi zone of the pick-up", aliases=("locationID",)),
        Column("DOLocationID", INTEGER, "Taxi zone of the drop-off", since="2017-01"),
        Column("SR_Flag", INTEGER, "Shared ride: 1, else empty", since="2017-07"),
        # Not in the TLC's own files of 2019.
        Column("Affiliated_base_number", TEXT, "Licence of the base the car belongs to", since="2020-01"),
    ),
)

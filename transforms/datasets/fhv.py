"""For-hire vehicle trips: black cars, livery and luxury limousines, as their bases report them."""

from transforms.dataset import Column, ColumnType, Dataset

FHV = Dataset(
    name="fhv",
    title="For-hire vehicle trips",
    first_month="2015-01",
    pickup="pickup_datetime",
    dropoff="dropoff_datetime",
    columns=(
        Column("dispatching_base_num", ColumnType.TEXT, "licence of the base that sent the car"),
        Column(
            "pickup_datetime",
            ColumnType.TIMESTAMP,
            "start of the trip, New York time",
            aliases=("Pickup_date",),
            required=True,
        ),
        # Released as dropOff_datetime in some years and dropoff_datetime in others.
        Column("dropoff_datetime", ColumnType.TIMESTAMP, "end of the trip", since="2017-01"),
        Column("PULocationID", ColumnType.INTEGER, "taxi zone of the pick-up", aliases=("locationID",)),
        Column("DOLocationID", ColumnType.INTEGER, "taxi zone of the drop-off", since="2017-01"),
        Column("SR_Flag", ColumnType.INTEGER, "1: shared ride, else empty", since="2017-07"),
        Column(
            "Affiliated_base_number",
            ColumnType.TEXT,
            "licence of the base the car belongs to; the TLC's own 2019 files do not have it",
            since="2020-01",
        ),
    ),
)

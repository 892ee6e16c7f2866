"""What taxi files had before the layouts of today: coordinates instead of zones, words instead of numbers.

Yellow files of 2009 call their columns `vendor_name`, `Trip_Pickup_DateTime`, `Fare_Amt`, ...; those of
2010 to 2014 `vendor_id`, `pickup_datetime`, `fare_amount`, ...; the names of today begin in 2015. Until June
2016 a trip starts and ends at coordinates, afterwards in taxi zones. The TLC has remade its Parquet files
from 2011 on in the layout of today; those of 2009 and 2010 are as the CSV files were.
"""

from transforms.dataset import Column, ColumnType

COORDINATES = tuple(
    Column(
        f"{end}_{kind}",
        ColumnType.FLOAT,
        f"degrees, {end}; until zones came",
        until="2016-06",
        aliases=(old,),
    )
    for end, kind, old in (
        ("pickup", "longitude", "Start_Lon"),
        ("pickup", "latitude", "Start_Lat"),
        ("dropoff", "longitude", "End_Lon"),
        ("dropoff", "latitude", "End_Lat"),
    )
)

PAYMENT_CODES = (
    *dict.fromkeys(("credit", "cre", "crd"), 1).items(),
    *dict.fromkeys(("cash", "cas", "csh"), 2).items(),
    *dict.fromkeys(("no charge", "no", "noc"), 3).items(),
    *dict.fromkeys(("dispute", "dis"), 4).items(),
    *dict.fromkeys(("unknown", "unk", "na"), 5).items(),
    *dict.fromkeys(("voided trip", "voi"), 6).items(),
)
"""How a trip was paid: words until 2014, the TLC's numbers since."""

VENDOR_CODES = (("cmt", 1), ("vts", 2), ("dds", 3))
"""Who recorded a trip: Creative Mobile Technologies, VeriFone (today Curb), Digital Dispatch Systems.

NOTE: the TLC has no number for DDS, which left in 2010; 3 is ours, and no other vendor's.
"""

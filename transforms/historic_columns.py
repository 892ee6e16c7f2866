"""What taxi files had before today's layout: coordinates instead of zones, words instead of numbers.

Yellow files of 2009 call their columns `vendor_name`, `Trip_Pickup_DateTime`, `Fare_Amt`, ...; those of
2010 to 2014 `vendor_id`, `pickup_datetime`, `fare_amount`, ...; today's names begin in 2015. Until June
2016 a trip starts and ends at coordinates, afterwards in taxi zones. The TLC has rewritten its Parquet
files from 2011 on in today's layout; those of 2009 and 2010 have the columns of the CSV files.
"""

from transforms.column import FLOAT, Column

COORDINATES = tuple(
    Column(
        f"{end}_{axis}",
        FLOAT,
        f"{axis.capitalize()} of the {label}, before taxi zones",
        unit="degree",
        until="2016-06",
        aliases=(alias,),
    )
    for end, axis, label, alias in (
        ("pickup", "longitude", "pick-up", "Start_Lon"),
        ("pickup", "latitude", "pick-up", "Start_Lat"),
        ("dropoff", "longitude", "drop-off", "End_Lon"),
        ("dropoff", "latitude", "drop-off", "End_Lat"),
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
"""How a trip was paid for: words until 2014, the TLC's numbers since."""

PAYMENT_DESCRIPTION = "Payment: 0 flex, 1 card, 2 cash, 3 no charge, 4 dispute, 5 unknown, 6 voided"

VENDOR_CODES = (("cmt", 1), ("vts", 2), ("dds", 3))
"""Providers of the records: Creative Mobile Technologies, VeriFone (today Curb), Digital Dispatch Systems.

NOTE: the TLC has no number for DDS, which left in 2010; 3 is our choice, and no other vendor has it.
"""

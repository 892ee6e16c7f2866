"""The dimension tables: what the zones and codes in the trips stand for.

The codes are those of the TLC's data dictionaries of yellow, green and high-volume trips of 18 March 2025
(https://www.nyc.gov/assets/tlc/downloads/pdf/data_dictionary_trip_records_yellow.pdf, ..._green.pdf and
..._hvfhs.pdf). What none of them explains, such as vendor 4 in files of 2019, has no row here.
`taxi_zone_lookup.csv` is the TLC's own file (https://www.nyc.gov/site/tlc/about/tlc-trip-record-data.page).
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from transforms.column import INTEGER, TEXT, Column


@dataclass(frozen=True, slots=True)
class Dimension:
    """A small table that says what the values of a column stand for.

    Attributes:
        name: of the table, the same in every warehouse.
        description: a phrase in sentence case.
        columns: the first one is the key.
        rows: the values in the order of the columns.
    """

    name: str
    description: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[int | str, ...], ...]


@cache
def dimensions() -> tuple[Dimension, ...]:
    """Every dimension table."""
    return (
        Dimension(
            "taxi_zones",
            "Taxi zones of the TLC",
            (
                Column("location_id", INTEGER, "Number of the zone, as in PULocationID and DOLocationID"),
                Column("borough", TEXT, "Borough, EWR for Newark Airport, or Unknown"),
                Column("zone", TEXT, "Name of the zone; NV: unknown, NA: outside of New York"),
                Column("service_zone", TEXT, "Yellow Zone, Boro Zone, Airports, EWR, or N/A"),
            ),
            _zones(),
        ),
        _codes(
            "taxi_payment_types",
            "How trips are paid for",
            ("payment_type", "payment"),
            {
                0: "Flex fare",
                1: "Credit card",
                2: "Cash",
                3: "No charge",
                4: "Dispute",
                5: "Unknown",
                6: "Voided trip",
            },
        ),
        _codes(
            "taxi_rate_codes",
            "Rates in effect at the end of trips",
            ("rate_code_id", "rate"),
            {
                1: "Standard rate",
                2: "JFK",
                3: "Newark",
                4: "Nassau or Westchester",
                5: "Negotiated fare",
                6: "Group ride",
                99: "Unknown",
            },
        ),
        # 3 is our own number, see VENDOR_CODES in transforms/historic_columns.py.
        _codes(
            "taxi_vendors",
            "Providers of the records of taxi trips",
            ("vendor_id", "vendor"),
            {
                1: "Creative Mobile Technologies",
                2: "Curb Mobility",
                3: "Digital Dispatch Systems",
                6: "Myle Technologies",
                7: "Helix",
            },
        ),
        _codes(
            "taxi_hvfhs_licenses",
            "Companies of high-volume for-hire trips",
            ("hvfhs_license_num", "company"),
            {"HV0002": "Juno", "HV0003": "Uber", "HV0004": "Via", "HV0005": "Lyft"},
        ),
    )


def _zones() -> tuple[tuple[int | str, ...], ...]:
    text = (files("transforms") / "taxi_zone_lookup.csv").read_text("utf-8")
    _, *rows = csv.reader(text.splitlines())
    return tuple((int(location_id), *names) for location_id, *names in rows)


def _codes(
    name: str, description: str, columns: tuple[str, str], words: dict[int, str] | dict[str, str]
) -> Dimension:
    code, word = columns
    kind = TEXT if all(isinstance(value, str) for value in words) else INTEGER
    return Dimension(
        name,
        description,
        (Column(code, kind, "Code in the trips"), Column(word, TEXT, "What the code stands for")),
        tuple(words.items()),
    )

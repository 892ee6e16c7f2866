"""The numbers of the report, as a warehouse has counted them."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, cast

import polars as pl

from transforms.datasets import DATASETS
from transforms.report_queries import RELATIONS, report_queries
from transforms.trip_month import TripMonth, months_between

if TYPE_CHECKING:
    from flows.destinations import Warehouse

MONTH, DAY_MONTH = "file_month", pl.col("day").dt.truncate("1mo")
MOST_DAYS = 800
"""Beyond it, what is drawn by day for shorter ranges is drawn by month."""


@dataclass(frozen=True)
class Figures:
    """The answers of a warehouse, and what is summed up from them; frames are named as their queries.

    Attributes:
        warehouse: its name, as in `--to`.
        loads, hours, kinds, zones, odd, rejects: see `transforms.report_queries`.
    """

    warehouse: str
    loads: pl.DataFrame
    hours: pl.DataFrame
    kinds: pl.DataFrame
    zones: pl.DataFrame
    odd: pl.DataFrame
    rejects: pl.DataFrame

    @cached_property
    def months(self) -> pl.DataFrame:
        """One row for each dataset and month: `trips` counted now, and the ledger's row if it has one."""
        counted = self.kinds.group_by("dataset", MONTH).agg(pl.col("trips").sum())
        keys = ["dataset", MONTH]
        joined = self.loads.join(counted, on=keys, how="full", coalesce=True)
        order = pl.col("dataset").cast(pl.Enum(list(DATASETS)))
        return joined.with_columns(pl.col("trips").fill_null(0)).sort(order, MONTH)

    @property
    def datasets(self) -> list[str]:
        """The datasets of which there are trips."""
        have = {*self.kinds["dataset"]}
        return [name for name in DATASETS if name in have]

    @property
    def trips(self) -> int:
        """All trips."""
        return int(self.kinds["trips"].sum())

    @property
    def revenue(self) -> float:
        """What all trips cost, in USD."""
        return int(self.hours["cents"].sum()) / 100

    @property
    def odd_trips(self) -> int:
        """Trips that are odd for at least one reason."""
        return int(self.odd["trips"].sum())

    @property
    def rejected(self) -> int:
        """Rows that were not loaded, as `taxi_rejects` has them."""
        return int(self.rejects["lines"].sum())

    @property
    def range(self) -> tuple[dt.date, dt.date]:
        """The first and the last month of all datasets."""
        months = self.months[MONTH]
        return cast("dt.date", months.min()), cast("dt.date", months.max())

    @property
    def gaps(self) -> list[TripMonth]:
        """The months that are missing between the first and the last of their dataset."""
        have = [TripMonth.of_date(*key) for key in self.months.select("dataset", MONTH).iter_rows()]
        by_dataset = [[month for month in have if month.color == name] for name in DATASETS]
        spans = (months_between(min(months), max(months)) for months in by_dataset if months)
        return [month for span in spans for month in span if month not in have]

    @cached_property
    def hours_in_months(self) -> pl.DataFrame:
        """The hours of pick-ups in a month that is loaded; strays years away would stretch every picture."""
        months = self.months.select("dataset", month=MONTH)
        return self.hours.with_columns(month=DAY_MONTH).join(months, on=["dataset", "month"], how="semi")

    @property
    def strays(self) -> int:
        """Trips with a pick-up in a month that is not loaded."""
        return int(self.hours["trips"].sum()) - int(self.hours_in_months["trips"].sum())

    def over_time(self, dataset: str) -> tuple[str, pl.DataFrame]:
        """Trips and cents of a dataset by day, or by month if there are many days.

        Args:
            dataset: its name.

        Returns:
            `day` or `month`, and `at`, `trips` and `cents`: null where no month is loaded.
        """
        hours = self.hours_in_months.filter(dataset=dataset)
        loaded = self.months.filter(dataset=dataset).select(month=MONTH)
        first, last = cast("dt.date", loaded["month"].min()), cast("dt.date", loaded["month"].max())
        days = pl.date_range(first, last.replace(day=28) + dt.timedelta(4), eager=True).alias("at").to_frame()
        days = days.with_columns(month=pl.col("at").dt.truncate("1mo")).filter(pl.col("month") <= last)
        unit = "day"
        if len(days) > MOST_DAYS:
            unit, days = "month", days.filter(pl.col("at") == pl.col("month"))
        sums = hours.group_by(at=pl.col(unit)).agg(pl.col("trips", "cents").sum())
        is_loaded = loaded.with_columns(is_loaded=pl.lit(value=True))
        values = [
            pl.when("is_loaded").then(pl.col(name).fill_null(0)).alias(name) for name in ("trips", "cents")
        ]
        joined = days.join(sums, on="at", how="left").join(is_loaded, on="month", how="left").sort("at")
        return unit, joined.select("at", *values)

    def by_hour(self, dataset: str) -> pl.DataFrame:
        """Trips of a dataset by `weekday`, Monday being 1, and `hour`; every hour of the week has a row.

        Args:
            dataset: its name.
        """
        week = pl.DataFrame({"weekday": range(1, 8)}, schema={"weekday": pl.Int8}).join(
            pl.DataFrame({"hour": range(24)}, schema={"hour": pl.Int64}), how="cross"
        )
        hours = self.hours_in_months.filter(dataset=dataset)
        sums = hours.group_by(pl.col("day").dt.weekday().alias("weekday"), "hour").agg(pl.col("trips").sum())
        return week.join(sums, on=["weekday", "hour"], how="left").with_columns(pl.col("trips").fill_null(0))

    def by_reason(self, dataset: str) -> pl.DataFrame:
        """Odd trips of a dataset by month and `reason`, with their `share` of the month's trips.

        Args:
            dataset: its name.
        """
        reasons = self.odd.filter(dataset=dataset).with_columns(reason=pl.col("reasons").str.split(", "))
        sums = reasons.explode("reason").group_by(MONTH, "reason").agg(pl.col("trips").sum())
        months = self.months.filter(dataset=dataset).select(MONTH, pl.col("trips").alias("all"))
        names = sums.select("reason").unique()
        grid = months.join(names, how="cross").join(sums, on=[MONTH, "reason"], how="left")
        return grid.with_columns(
            pl.col("trips").fill_null(0), share=pl.col("trips").fill_null(0) / pl.col("all")
        )

    def boroughs(self) -> pl.DataFrame:
        """Trips of all datasets by `borough` of the pick-up, the most first."""
        sums = self.zones.group_by(pl.col("borough").fill_null("Not recorded")).agg(pl.col("trips").sum())
        return sums.sort("trips", descending=True)

    def shares(self, column: str) -> pl.DataFrame:
        """Trips by dataset and a column of `kinds`, with their `share` of the dataset's trips that have it.

        Args:
            column: `miles` or `tip_percent`.
        """
        sums = self.kinds.drop_nulls(column).group_by("dataset", column).agg(pl.col("trips").sum())
        return sums.with_columns(share=pl.col("trips") / pl.col("trips").sum().over("dataset")).sort(column)

    @property
    def mean_tips(self) -> dict[str, float]:
        """Tips divided by fares of trips paid by card, by dataset."""
        sums = self.kinds.group_by("dataset").agg(pl.col("fare_cents", "tip_cents").sum())
        return {
            name: tips / fares
            for name, fares, tips in sums.select("dataset", "fare_cents", "tip_cents")
            .sort("dataset")
            .iter_rows()
            if fares
        }


def read_figures(warehouse: Warehouse) -> Figures:
    """Ask a warehouse for the figures of the report; it aggregates them itself.

    Args:
        warehouse: which one.

    Raises:
        UsageError: it has no month, or no views.
        DestinationBusy, DestinationRefused, LocalStorageError: it cannot be read.
    """
    queries = report_queries()
    answers = warehouse.ask([query.sql for query in queries.values()], RELATIONS)
    frames = {
        name: pl.DataFrame(rows, schema=dict(query.schema), orient="row")
        for (name, query), rows in zip(queries.items(), answers, strict=True)
    }
    return Figures(warehouse.name, **frames)

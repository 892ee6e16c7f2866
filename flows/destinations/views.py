"""The views and dimension tables of a warehouse: what has to be made, what is renewed, what is left alone.

They are made in a transaction of their own, after the month has been published: nothing about a view can then
stop a month, and a run that is killed in between leaves the month loaded and the views to the next run. Each
object of ours carries a mark, a digest of all that it is made from. As long as every mark is right, one query
is all that a run spends on them, and sqlglot is not imported.
"""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, TypeAlias

from transforms import sql
from transforms.dataset import FILE_MONTH
from transforms.datasets import DATASETS
from transforms.dimensions import Dimension, dimensions
from transforms.views import View, taxi_views

if TYPE_CHECKING:
    from transforms.column import ColumnType

logger = logging.getLogger(__name__)

MADE_BY = "made by taxi-etl"

RENDERING = 1
"""Raise it when the same declarations are rendered differently, so that existing views are renewed."""


@dataclass(frozen=True, slots=True)
class Relation:
    """A table or view that a warehouse has.

    Attributes:
        columns: type by name, as the warehouse names it.
        mark: of an object that we made; None: of all others.
        uncommented: names of the columns without a comment.
        identity: what a view is bound to that reads the table, where that is not its name.
    """

    columns: Mapping[str, str] = field(default_factory=dict[str, str])
    mark: str | None = None
    uncommented: tuple[str, ...] = ()
    identity: str = ""


Relations: TypeAlias = "Mapping[str, Relation]"
"""The tables and views among `relation_names` that exist, by name."""


@dataclass(frozen=True, slots=True)
class ViewPlan:
    """What has to be made.

    Attributes:
        mark: of every object.
        dimensions, views: in the order in which they can be made; empty if all of them are as they should be.
        taken: names that others use.
        left_out: names of views that would read what has such a name.
    """

    mark: str
    dimensions: tuple[Dimension, ...]
    views: tuple[View, ...]
    taken: tuple[str, ...]
    left_out: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Dialect:
    """How a warehouse writes types and names.

    Attributes:
        name: as sqlglot calls it.
        type_name: names a type.
        qualified: writes the name of a table or view as it stands in a statement.
        quoted: writes the name of a column.
        schema: where the tables are: nothing, a schema, or project and dataset.
        key: what the first column of a dimension table has behind its type.
        fold: what two spellings of a column have in common, if their case does not count.
    """

    name: str
    type_name: Callable[[ColumnType], str]
    qualified: Callable[[str], str]
    quoted: Callable[[str], str]
    schema: tuple[str, ...] = ()
    key: str = ""
    fold: Callable[[str], str] = str


@cache
def relation_names() -> tuple[str, ...]:
    """The names of all tables and views that matter here."""
    ours = (item.name for item in (*dimensions(), *taxi_views({})))
    return (*(dataset.table for dataset in DATASETS.values()), *ours)


def mark_in(comment: str | None) -> str | None:
    """The mark in the comment of a table or view.

    Args:
        comment: as the warehouse has it.

    Returns:
        The mark; None if we did not make the object.
    """
    match = re.search(rf"{MADE_BY}, (\w+)$", comment or "")
    return match[1] if match else None


def plan_views(relations: Relations, dialect: Dialect) -> ViewPlan | None:
    """Compare what a warehouse has with the declarations.

    Args:
        relations: what it has.
        dialect: the warehouse's.

    Returns:
        What has to be made; None if there is no table with trips.
    """
    tables = _covered_tables(relations, dialect)
    if not tables:
        return None
    views = taxi_views(tables)
    bound = [relations[DATASETS[name].table].identity for name in tables]
    content = repr((RENDERING, dimensions(), views, bound))
    mark = hashlib.sha256(content.encode()).hexdigest()[:12]
    marks = {name: relation.mark for name, relation in relations.items()}
    taken = {item.name for item in (*dimensions(), *views) if marks.get(item.name, mark) is None}
    unusable = set(taken)
    for view in views:
        if not unusable.isdisjoint(view.needs):
            unusable.add(view.name)
    left_out = tuple(view.name for view in views if view.name in unusable - taken)
    ours = [item for item in (*dimensions(), *views) if item.name not in unusable]
    if all(marks.get(item.name) == mark for item in ours):
        ours = []
    return ViewPlan(
        mark,
        tuple(item for item in ours if isinstance(item, Dimension)),
        tuple(item for item in ours if isinstance(item, View)),
        tuple(sorted(taken)),
        left_out,
    )


def _covered_tables(relations: Relations, dialect: Dialect) -> dict[str, list[str]]:
    """The columns that views can read, by dataset; a table of another shape is not one of ours."""
    tables = dict[str, list[str]]()
    for dataset in DATASETS.values():
        if relation := relations.get(dataset.table):
            want = {name: dialect.type_name(kind) for name, kind in dataset.types().items()}
            have = {dialect.fold(name): kind for name, kind in relation.columns.items()}
            columns = [name for name in want if dialect.fold(name) in have]
            has_types = all(have[dialect.fold(name)] == want[name] for name in columns)
            if {dataset.pickup, FILE_MONTH} <= {*columns} and has_types:
                tables[dataset.name] = columns
    return tables


def statements(plan: ViewPlan, relations: Relations, dialect: Dialect) -> Iterator[str]:
    """The statements that make what a plan contains, for a warehouse with transactions that create tables.

    An object is changed in place, so that its grants stay, unless its columns have changed.

    Args:
        plan: as compared with `relations`.
        relations: what the warehouse has.
        dialect: the warehouse's.

    Yields:
        Statements, to be run in one transaction.
    """

    def is_kept(item: Dimension | View) -> bool:
        """Whether the object can get the declared columns in place; views can get more of them at the end."""
        have = [*relations[item.name].columns.items()] if item.name in relations else []
        want = [(column.name, dialect.type_name(column.type)) for column in item.columns]
        return have == want[: len(have)] and (isinstance(item, View) or have in ([], want))

    if not all(map(is_kept, (*plan.dimensions, *plan.views))):
        for view in reversed(plan.views):
            yield f"DROP VIEW IF EXISTS {dialect.qualified(view.name)}"
        for dimension in plan.dimensions:
            if not is_kept(dimension):
                yield f"DROP TABLE {dialect.qualified(dimension.name)}"
    for dimension in plan.dimensions:
        yield from _fill(dimension, dialect)
        yield from _comments("TABLE", dimension, plan.mark, dialect)
    for view in plan.views:
        query = sql.render(view.query, dialect.name, dialect.schema)
        yield f"CREATE OR REPLACE VIEW {dialect.qualified(view.name)} AS\n{query}"
        yield from _comments("VIEW", view, plan.mark, dialect)


def _fill(dimension: Dimension, dialect: Dialect) -> Iterator[str]:
    table, (key, *others) = dialect.qualified(dimension.name), dimension.columns
    columns = [f"{dialect.quoted(column.name)} {dialect.type_name(column.type)}" for column in (key, *others)]
    columns[0] += dialect.key
    rows = ", ".join(f"({', '.join(map(literal, row))})" for row in dimension.rows)
    yield f"CREATE TABLE IF NOT EXISTS {table} ({', '.join(columns)})"
    yield f"DELETE FROM {table}"
    yield f"INSERT INTO {table} VALUES {rows}"


def _comments(kind: str, item: Dimension | View, mark: str, dialect: Dialect) -> Iterator[str]:
    name = dialect.qualified(item.name)
    yield f"COMMENT ON {kind} {name} IS {literal(comment_of(item, mark))}"
    for column in item.columns:
        yield f"COMMENT ON COLUMN {name}.{dialect.quoted(column.name)} IS {literal(column.comment)}"


def comment_of(item: Dimension | View, mark: str) -> str:
    """What an object of ours says about itself.

    Args:
        item: its declaration.
        mark: of the plan.
    """
    return f"{item.description}; {MADE_BY}, {mark}"


def column_comments(relations: Relations, dialect: Dialect) -> Iterator[str]:
    """The statements that give the columns of trip tables the comments that they lack.

    Args:
        relations: what the warehouse has.
        dialect: the warehouse's.

    Yields:
        Statements; none if people or earlier runs have commented every declared column.
    """
    for name in _covered_tables(relations, dialect):
        dataset = DATASETS[name]
        table = dialect.qualified(dataset.table)
        for column, comment in dataset.comments(relations[dataset.table].uncommented).items():
            yield f"COMMENT ON COLUMN {table}.{dialect.quoted(column)} IS {literal(comment)}"


def literal(value: str | int) -> str:
    """A value as it stands in a statement of standard SQL.

    Args:
        value: text without control characters, or a whole number.
    """
    return "'" + value.replace("'", "''") + "'" if isinstance(value, str) else str(value)


@cache
def warn_once(message: str) -> None:
    """Log a warning, once in the life of the process, however many months it loads.

    Args:
        message: one line.
    """
    logger.warning(message)


def warn_about_names(plan: ViewPlan, place: str) -> None:
    """Say which names are somebody else's, and what is missing therefore.

    Args:
        plan: of the warehouse.
        place: where that is.
    """
    if plan.taken:
        missing = f", and without {_listed(plan.left_out)}, which would read it" if plan.left_out else ""
        warn_once(
            f"{place} has {_listed(plan.taken)} that taxi-etl did not make: it is left alone{missing}. "
            "Rename it to get the view of that name, or set TAXI_VIEWS=false to do without views"
        )


def warn_about_failure(reason: str, place: str) -> None:
    """Say that views could not be made, and that the months are loaded all the same.

    Args:
        reason: why, in one line.
        place: where.
    """
    warn_once(
        f"the views in {place} could not be made or renewed ({reason}); the months are loaded all the "
        "same, and the next run tries again. TAXI_VIEWS=false does without views"
    )


def _listed(names: tuple[str, ...]) -> str:
    *first, last = names
    return f"{', '.join(first)} and {last}" if first else last

"""Flow parameters: their types, and how one flow takes over those of another."""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable, Collection
from typing import Annotated, Any, Literal, TypeVar

from pydantic import Field

from flows.request.selection import FIRST_YEAR, LAST_YEAR
from transforms.trip_month import ISO_MONTH

Result = TypeVar("Result")

Color = Literal["yellow", "green", "fhv", "fhvhv"]
Month = Annotated[int, Field(ge=1, le=12)]
Year = Annotated[int, Field(ge=FIRST_YEAR, le=LAST_YEAR)]
IsoMonth = Annotated[str, Field(pattern=ISO_MONTH, examples=["2019-01"])]
Count = Annotated[int, Field(ge=1)]
Ratio = Annotated[float, Field(ge=0, le=1)]


def with_parameters_of(
    other: Callable[..., object], *, without: Collection[str] = ()
) -> Callable[[Callable[..., Result]], Callable[..., Result]]:
    """Give a function that takes `**parameters` those of another one, typed and by name.

    So an option is declared once, and Prefect shows it for every flow that has it.

    Args:
        other: a function, or a class for the parameters of its constructor.
        without: parameters not to take over.

    Returns:
        A decorator. Parameters that the decorated function declares itself come first and win.
    """

    def decorate(function: Callable[..., Result]) -> Callable[..., Result]:
        own = [
            parameter
            for parameter in inspect.signature(function, eval_str=True).parameters.values()
            if parameter.kind is not inspect.Parameter.VAR_KEYWORD
        ]
        names = {*without, *(parameter.name for parameter in own)}
        taken = [
            parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) if own else parameter
            for parameter in inspect.signature(other, eval_str=True).parameters.values()
            if parameter.name not in names
        ]
        signature = inspect.Signature([*own, *taken])

        @functools.wraps(function)
        def call(*args: Any, **parameters: Any) -> Result:  # noqa: ANN401 - as the signature says
            return function(**signature.bind(*args, **parameters).arguments)

        call.__doc__ = _with_descriptions(function, other, [one.name for one in taken])
        call.__signature__ = signature  # type: ignore[attr-defined] # how `inspect` wants it
        call.__annotations__ = {one.name: one.annotation for one in signature.parameters.values()}
        return call

    return decorate


def _with_descriptions(function: Callable[..., object], other: object, names: Collection[str]) -> str:
    """The docstring of a function, the entry of its `**parameters` replaced by those it takes over."""
    section = re.split(r"^(?:Args|Attributes):\n", inspect.getdoc(other) or "", flags=re.MULTILINE)[-1]
    entries = re.findall(r"^(    (\w+): .*(?:\n {8}.*)*)", section.partition("\n\n")[0], re.MULTILINE)
    taken = "\n".join(text for text, name in entries if name in names)
    variadic = next(
        p.name for p in inspect.signature(function).parameters.values() if p.kind is p.VAR_KEYWORD
    )
    return re.sub(
        rf"^    {variadic}: .*", lambda _: taken, inspect.getdoc(function) or "", flags=re.MULTILINE
    )

"""Merge fields: which property of a profile goes into which field of an audience, and as what.

Source: https://mailchimp.com/developer/marketing/docs/merge-fields/
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from cohortsync.errors import BadInput

USUAL = {"$first_name": "FNAME", "$last_name": "LNAME"}
COLUMN = "field."  # before a tag: a column of a plan's people
ADDRESS_PARTS = ("addr1", "city", "state", "zip")
TRUE = ("true", "1", "yes")


@dataclass(frozen=True)
class Field:
    """One merge field of an audience: its ``tag``, its ``type``, and what a choice may be."""

    tag: str
    type: str
    choices: tuple[str, ...] = ()


@dataclass(frozen=True)
class Filled:
    """What a plan sends into merge fields: a column a tag, the fields to make first, and what does not fit."""

    columns: dict[str, pd.Series]
    new: tuple[Field, ...]
    warnings: tuple[str, ...]


def parse_map(words: Sequence[str]) -> dict[str, str]:
    """``$city=CITY`` and the like as property → tag. Raises BadInput."""
    found: dict[str, str] = {}
    for word in words:
        name, equals, tag = word.rpartition("=")
        if not (equals and name and re.fullmatch(r"[A-Z0-9_]{1,10}", tag)):
            raise BadInput(f"--map takes PROPERTY=TAG, the tag of at most ten capitals and digits, not {word!r}.")
        if tag in found.values():
            raise BadInput(f"--map names {tag} twice; a merge field takes one property.")
        found[name] = tag
    return found


def suggested_tag(name: str) -> str:
    """The tag that a property goes by when nobody names another: ``$city`` as ``CITY``."""
    return re.sub(r"[^A-Z0-9_]", "", name.upper())[:10] or "FIELD"


def fill(values: Mapping[str, pd.Series], mapped: Mapping[str, str], present: Sequence[Field],
         create: bool) -> Filled:
    """``values`` (property → ``parsed``) as the audience's fields take them; None where there is none that fits.

    ``mapped``: property → tag, beside the usual two. Raises BadInput for a tag that the audience lacks, unless it is
    to be made.
    """
    fields, missing = {field.tag: field for field in present}, {}
    for name, tag in mapped.items():
        if tag not in fields:
            missing[tag] = Field(tag, _type_of(values[name]))
    if missing and not create:
        raise BadInput(f"The audience has no merge field {', '.join(missing)}. It has {', '.join(sorted(fields))}. "
                       "Make it in Mailchimp, or have it made with --create-fields.")
    columns, warnings = {}, []
    for name, tag in {**{name: tag for name, tag in USUAL.items() if tag in fields}, **mapped}.items():
        field = fields.get(tag) or missing[tag]
        found = values[name]
        plain = field.type == "text" and isinstance(found.dtype, pd.StringDtype)
        columns[COLUMN + tag] = found if plain else found.map(FITTING.get(field.type, _text)(field)).astype("object")
        if unfit := int((found.notna() & columns[COLUMN + tag].isna()).sum()):
            warnings.append(f"{unfit:,} values of {name} do not fit the merge field {tag} ({field.type}) and are left "
                            "out.")
    return Filled(columns, tuple(missing.values()), tuple(warnings))


def parsed(texts: pd.Series) -> pd.Series:
    """Property values out of their JSON; None for nothing and for blanks."""
    return texts.map(_parsed).astype("object")


def _parsed(text: Any) -> Any:
    if not isinstance(text, str):
        return None
    value = json.loads(text)
    return None if value is None or (isinstance(value, str) and not value.strip()) else value


def _type_of(values: pd.Series) -> str:
    """What a new field must be to take these values."""
    values = values.dropna()
    if len(values) and values.map(lambda value: isinstance(value, int | float) and not isinstance(value, bool)).all():
        return "number"
    dates = values.map(lambda value: isinstance(value, str) and _day(value) is not None)
    return "date" if len(values) and dates.all() else "text"


def _text(_field: Field) -> Callable[[Any], Any]:
    def fit(value: Any) -> Any:
        if isinstance(value, str):
            return value.strip()
        return None if value is None or isinstance(value, dict | list) else json.dumps(value)
    return fit


def _number(_field: Field) -> Callable[[Any], Any]:
    def fit(value: Any) -> Any:
        if isinstance(value, bool) or not isinstance(value, int | float | str):
            return None
        try:
            number = float(value)
        except ValueError:
            return None
        return number if np.isfinite(number) else None
    return fit


def _date(_field: Field) -> Callable[[Any], Any]:
    return lambda value: _day(value) if isinstance(value, str) else None


def _day(text: str) -> str | None:
    """``YYYY-MM-DD`` of a day or an instant in ISO 8601, the form that Mailchimp takes."""
    if not re.match(r"\d{4}-\d{2}-\d{2}(?:[T ]|$)", text):
        return None
    stamp = pd.to_datetime(text[:10], format="%Y-%m-%d", errors="coerce")
    return None if pd.isna(stamp) else text[:10]


def _birthday(_field: Field) -> Callable[[Any], Any]:
    def fit(value: Any) -> Any:
        day = _day(value) if isinstance(value, str) else None
        if day:
            return f"{day[5:7]}/{day[8:10]}"
        return value if isinstance(value, str) and re.fullmatch(r"(0[1-9]|1[0-2])/[0-3]\d", value) else None
    return fit


def _address(_field: Field) -> Callable[[Any], Any]:
    def fit(value: Any) -> Any:
        whole = isinstance(value, dict) and all(value.get(part) for part in ADDRESS_PARTS)
        return value if whole else None
    return fit


def _choice(field: Field) -> Callable[[Any], Any]:
    text = _text(field)

    def fit(value: Any) -> Any:
        return found if (found := text(value)) in field.choices else None
    return fit


def _link(field: Field) -> Callable[[Any], Any]:
    text = _text(field)

    def fit(value: Any) -> Any:
        return found if re.match(r"https?://\S+$", found := str(text(value))) else None
    return fit


FITTING: dict[str, Callable[[Field], Callable[[Any], Any]]] = {
    "number": _number, "date": _date, "birthday": _birthday, "address": _address, "radio": _choice,
    "dropdown": _choice, "url": _link, "imageurl": _link}


def sent(value: Any) -> Any:
    """A kept value as it goes over the wire: whole numbers whole, absent parts of an address left out."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return {part: said for part, said in value.items() if said} if isinstance(value, dict) else value


def contacts(people: pd.DataFrame) -> list[dict[str, Any]]:
    """``address`` and ``merge_fields`` of each person, as Mailchimp takes them."""
    tags = [name.removeprefix(COLUMN) for name in people.columns if name.startswith(COLUMN)]
    columns = [_sent(people[COLUMN + tag]) for tag in tags]
    return [{"address": address, "merge_fields": {tag: value for tag, value in zip(tags, values, strict=True)
                                                  if value is not None and value == value}}
            for address, *values in zip(people["address"].tolist(), *columns, strict=True)]


def _sent(column: pd.Series) -> list[Any]:
    values: list[Any] = column.tolist()
    return values if isinstance(column.dtype, pd.StringDtype) else [sent(value) for value in values]


def differing(people: pd.DataFrame, members: pd.DataFrame) -> pd.Series:
    """Whether a member's merge fields are other than what is known here. A value not known here differs from none."""
    now = people["member_hash"].map(members.set_index("member_hash")["merge_fields"])
    found = pd.Series(False, index=people.index)
    for name in people.columns[people.columns.str.startswith(COLUMN)]:
        there = now.str.get(name.removeprefix(COLUMN)).map(_comparable)
        here = people[name].map(lambda value: _comparable(sent(value)), na_action="ignore")
        found |= here.notna() & (here != there)
    return found & now.notna()


def _comparable(value: Any) -> str:
    """One spelling of a value, whatever type Mailchimp answers with."""
    if isinstance(value, dict):
        return json.dumps({part: said for part, said in sorted(value.items()) if said})
    number = _number(Field("", "number"))(value)
    return str(sent(number)) if number is not None else str("" if value is None else value)


def consents(texts: pd.Series) -> pd.Series:
    """Whether a property says yes: true, 1 or yes."""
    return texts.astype("str").fillna("").str.strip('"').str.strip().str.lower().isin(TRUE)

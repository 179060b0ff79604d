"""Figures and tables of people as pages show them: in the page's ink, and with no address in clear."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import plotly.graph_objects as go
import streamlit as st

from cohortsync import charts, emails

FORMULA_STARTS = tuple("=+-@\t\r＝＋－＠")
SHOWN = 500
DARK_INK, LIGHT_INK = "#50545f", "#c9ccd8"


def figure(drawn: go.Figure, key: str) -> None:
    """A figure with its own colours, its words in the page's font and ink; who cannot see it is told what it shows.

    Streamlit puts an empty template in the place of Plotly's, which holds the axes' margins.
    """
    ink = LIGHT_INK if st.context.theme.type == "dark" else DARK_INK
    drawn.update_layout(template="plotly", font={"color": ink, "family": "Source Sans, sans-serif"})
    st.plotly_chart(drawn, key=key, theme=None, config={"displayModeBar": False}, alt=charts.told(drawn))


def minute(instants: pd.Series) -> pd.Series:
    """ISO instants to the minute, as they read."""
    return instants.str[:16].str.replace("T", " ")


def masked(people: pd.DataFrame) -> pd.DataFrame:
    """A table of people with no address in it, also where an id, a name or a malformed e-mail holds one."""
    def hidden(column: pd.Series) -> pd.Series:
        if not pd.api.types.is_string_dtype(column):
            return column
        return column.map(emails.mask if column.name == "email" else emails.scrub, na_action="ignore")

    return people.apply(hidden)


def people(rows: pd.DataFrame, headings: Mapping[str, str], of: int | None = None, whole: bool = False) -> None:
    """The first rows of a table of people, ``of`` so many: the columns named, masked unless asked for ``whole``."""
    count = len(rows) if of is None else of
    first = f"The first {SHOWN:,} of {count:,} people" if count > SHOWN else f"{count:,} people"
    st.caption(f"{first}; addresses {'whole' if whole else 'masked'}.")
    first_rows = rows.head(SHOWN)[list(headings)]
    table(first_rows if whole else masked(first_rows), headings)


def table(rows: pd.DataFrame, headings: Mapping[str, str], wide: Sequence[str] = ()) -> None:
    """A table under the headings given, numbers with separators; ``wide``: the columns that need room."""
    shown = rows[list(headings)].rename(columns=dict(headings))
    columns: dict[str, Any] = {str(name): st.column_config.NumberColumn(format="localized")
                               for name in shown.select_dtypes("int")}
    columns |= {headings[name]: st.column_config.TextColumn(width="large") for name in wide}
    st.dataframe(shown, hide_index=True, placeholder="", column_config=columns)


def csv(table: pd.DataFrame) -> bytes:
    """A table as a CSV whose cells no spreadsheet takes for formulas."""
    def guarded(cell: Any) -> Any:
        return f"'{cell}" if isinstance(cell, str) and cell.lstrip(" ").startswith(FORMULA_STARTS) else cell

    return table.map(guarded).to_csv(index=False).encode("utf-8-sig")

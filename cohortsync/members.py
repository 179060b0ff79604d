"""A Mailchimp audience as it was last read, to be looked at: nobody is asked, and no whole address comes out."""

from __future__ import annotations

from pathlib import Path

import duckdb
import pandas as pd

from cohortsync import emails, ledger


def counts(con: duckdb.DuckDBPyConnection, audience_id: str) -> pd.DataFrame:
    """One row per status in an audience as last read: ``status, people``."""
    return con.execute("select status, count(*) as people from audience_members where audience_id = ? group by status "
                       "order by people desc", [audience_id]).df()


def members(con: duckdb.DuckDBPyConnection, audience_id: str, status: str = "",
            limit: int | None = None) -> pd.DataFrame:
    """One row per member of an audience as last read: ``email`` (masked), ``status, last_changed``."""
    frame = con.execute("""select address, status, last_changed from audience_members where audience_id = $audience
        and $status in ('', status) order by last_changed desc, member_hash limit $limit""",
                        {"audience": audience_id, "status": status, "limit": limit}).df()
    return emails.masked(frame)


def segments(home: Path, con: duckdb.DuckDBPyConnection, audience_id: str) -> pd.DataFrame:
    """One row per segment kept for a cohort: ``cohort, name, segment_id, people`` who carry its tag, as last read."""
    tagged = con.execute("""select tag, count(*) as people from (select unnest(from_json(tags, '["bigint"]')) as tag
        from audience_members where audience_id = ?) group by tag""", [audience_id]).df().set_index("tag")["people"]
    rows = ledger.segments(home, audience_id)
    kept = pd.DataFrame(rows, columns=["project_id", "cohort", "name", "segment_id"])
    return kept.assign(people=kept["segment_id"].map(tagged).fillna(0).astype("int64"))

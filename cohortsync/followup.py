"""What became of the mails: Mailchimp's five events, as they came back into Mixpanel, by cohort.

Both published families of names are counted as one. Source:
https://docs.mixpanel.com/docs/cohort-sync/integrations/mailchimp
"""

from __future__ import annotations

import duckdb
import pandas as pd

from cohortsync import mtu
from cohortsync.warehouse import sql

ACTIONS = ("sent", "opened", "clicked", "bounced", "unsubscribed")


def followup(con: duckdb.DuckDBPyConnection, project_id: str, month: str | None = None) -> pd.DataFrame:
    """One row per cohort and action, in the order of ``ACTIONS``; the last five rows are everyone's.

    Columns: ``project_id, cohort`` (NA: everyone), ``action, users, events, share_of_sent`` (users, of those who
    were sent a mail; NA where nobody was), ``marked_share`` (of the events, how many say ``$source = mailchimp``;
    NA where there are none). ``month``: one only (``YYYY-MM``); raises BadInput when it is none.
    """
    return con.execute(sql("followup"), {"project_id": project_id, **mtu.days(month)}).df()

"""How long is kept what runs hold of people: plans and outcomes for a time, receipts for ever."""

from __future__ import annotations

import time
from pathlib import Path

from cohortsync.config import Settings

OF_PEOPLE = ("plan.parquet", "outcome.parquet")


def sweep(home: Path) -> int:
    """Delete what runs older than the retention time hold of people; answers how many files that were."""
    oldest = time.time() - Settings().retention_days * 86400
    expired = [path for name in OF_PEOPLE for path in (home / "runs").glob(f"*/{name}")
               if path.stat().st_mtime < oldest]
    for path in expired:
        path.unlink(missing_ok=True)
    return len(expired)

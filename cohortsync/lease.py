"""One sync at a time per Mailchimp account and user of this machine, whatever the workspace.

The lease is an operating-system lock: the kernel frees it with the process that sends, however that ends.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import portalocker

from cohortsync import config
from cohortsync.errors import ApiTransient


@contextmanager
def hold(connection: dict[str, Any]) -> Iterator[None]:
    """Hold the lease of a connected account; raises ApiTransient while another process does."""
    folder = config.state_folder("leases")
    name = hashlib.sha256(f"{connection['host']}|{connection['account_id']}".encode()).hexdigest()[:20]
    with (folder / f"{name}.lock").open("a+") as file:
        try:
            portalocker.lock(file, portalocker.LockFlags.EXCLUSIVE | portalocker.LockFlags.NON_BLOCKING)
        except portalocker.LockException:
            raise ApiTransient(f"Another sync with {connection['account_name']} is at work on this machine. "
                               "Wait until it has finished.") from None
        yield

"""A local Mailchimp over real HTTP, for rehearsals, demonstrations and tests.

It keeps an audience in an SQLite file, refuses what Mailchimp refuses in Mailchimp's words, and where
the vendor leaves a behaviour open it behaves in the worst of the possible ways. Mail is never sent.

    with start(folder, seed="members.ndjson") as sandbox:
        requests.get(f"{sandbox.mailchimp_url}/3.0/ping", auth=("any", key))
"""

from .server import Sandbox, start

__all__ = ["Sandbox", "start"]

"""A local Mailchimp and a local Mixpanel over real HTTP, for rehearsals, demonstrations and tests.

Each keeps what it holds in an SQLite file, refuses what the vendor refuses in the vendor's words, and
where the vendor leaves a behaviour open it behaves in the worst of the possible ways. Mail is never sent.

    with start(folder, seed="members.ndjson", mixpanel_seed="mixpanel.json") as sandbox:
        requests.get(f"{sandbox.mailchimp_url}/3.0/ping", auth=("any", key))
        requests.get(f"{sandbox.mixpanel_url}/api/app/me", auth=(username, secret))
        advance(folder, seconds=7200)  # two hours later there
"""

from .life import Passed, advance
from .server import Sandbox, start

__all__ = ["Passed", "Sandbox", "advance", "start"]

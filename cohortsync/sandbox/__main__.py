"""`python -m cohortsync.sandbox`: serve the local Mailchimp and Mixpanel until stopped."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from .server import serve


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m cohortsync.sandbox", description=__doc__)
    parser.add_argument("--mailchimp-port", type=int, default=0, metavar="N", help="0 takes a free one")
    parser.add_argument("--mixpanel-port", type=int, default=0, metavar="N", help="0 takes a free one")
    parser.add_argument("--state", type=Path, required=True, metavar="DIR", help="where they remember")
    parser.add_argument("--seed", type=Path, metavar="FILE", help="NDJSON of members for Mailchimp's first start")
    parser.add_argument("--mixpanel-seed", type=Path, metavar="FILE", help="a project for Mixpanel's first start")
    parser.add_argument("--stop-with-stdin", action="store_true", help="stop when standard input ends")
    given = parser.parse_args(arguments)
    try:
        serve(given.state, given.mailchimp_port, given.seed, given.stop_with_stdin, given.mixpanel_port,
              given.mixpanel_seed)  # fmt: skip
    except (OSError, ValueError) as error:
        print(f"cannot start the local Mailchimp: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

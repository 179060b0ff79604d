"""Connect: the Mixpanel project, its data, and the Mailchimp account a sync would write to."""

from __future__ import annotations

from cohortsync.pages import accounts, data, frame, login, project

workspace = frame.start("Connect", "Three steps: the Mixpanel project, its data, and Mailchimp.")
if login.only_admins("connecting accounts and loading data"):
    project.show(workspace)
    data.show(workspace)
    accounts.show_mailchimp(workspace)
else:
    accounts.show_standings(workspace)

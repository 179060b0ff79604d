"""The local Mailchimp: its rules, each beside the words it refuses in, over one SQLite file."""

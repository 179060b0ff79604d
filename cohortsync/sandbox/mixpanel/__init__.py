"""The local Mixpanel: one project over one SQLite file, with a clock of its own."""

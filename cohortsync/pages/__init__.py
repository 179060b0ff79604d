"""The app's pages: each parses what a user chose, makes one call to the workspace, and shows the answer."""

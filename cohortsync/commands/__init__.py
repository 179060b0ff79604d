"""The commands, one noun a file: each parses, makes one call and shows what came of it."""

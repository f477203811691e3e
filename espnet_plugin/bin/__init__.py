"""Command lines, one a module: thin, with the logic elsewhere."""

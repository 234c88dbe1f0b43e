"""A Ray cluster as a deploy target: its dashboard's REST API, and what it is told."""

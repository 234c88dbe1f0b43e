"""Which replica group answers a request. Plain Python: no Ray, no web framework."""

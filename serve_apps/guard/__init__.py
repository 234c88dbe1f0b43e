"""Who may ask, how much, and what: keys, limits, headers and bodies. Plain Python, no framework."""

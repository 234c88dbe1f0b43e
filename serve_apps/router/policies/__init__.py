"""What to do with a request: estimates, prices and load to a choice, with the reason."""

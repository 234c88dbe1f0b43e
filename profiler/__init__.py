"""What hardware and models can do, and what traffic looks like."""

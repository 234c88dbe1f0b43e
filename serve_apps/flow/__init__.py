"""Where each request goes, when, and whether at all: plain Python, with the time passed in."""

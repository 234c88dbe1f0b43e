"""Hypothesis without deadlines: the machine's speed is not what tests are about."""

from hypothesis import settings

settings.register_profile("steady", deadline=None, derandomize=True, database=None)
settings.load_profile("steady")

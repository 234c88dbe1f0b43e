"""How many replicas of each group there should be, and why: plain Python, no Ray.

One `controller.Controller` runs in the simulator and live. It forecasts the load as it would be
without shedding, one cold start ahead (`forecast`), knows what a fleet can carry (`pools`), and
weighs rent, moves and misses against each other (`economics`). `loop` joins it to a live fleet.
"""

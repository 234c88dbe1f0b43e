"""A fleet simulated event by event: a plan's replicas, the router that serves production, a trace.

`orchestrator.simulator` is the same engine taken step by step; tests hold this package to it.
"""

"""Other autoscalers' rules, behind the same protocol, to be compared with in the simulator.

Each follows its published rule; the one figure that says how eagerly it scales is a parameter.
"""

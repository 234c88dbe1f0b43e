"""The cheapest mix of replicas that serves a workload inside its limits."""

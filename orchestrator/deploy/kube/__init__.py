"""A plan on a Kubernetes cluster: what is there, what would change, whether it is healthy."""

"""The data plane: ingress, router and engines as Ray Serve apps."""

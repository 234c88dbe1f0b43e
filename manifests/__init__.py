"""Kubernetes objects, rendered from a plan."""

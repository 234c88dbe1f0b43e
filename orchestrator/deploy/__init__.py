"""Where a plan can run: each target puts it there, tells how it does, and takes it away."""

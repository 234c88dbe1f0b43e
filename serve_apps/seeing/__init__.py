"""What one can see of the data plane: metrics, logs, traces, the journal and the live page."""

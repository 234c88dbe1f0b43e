"""What each model is expected to make of a prompt: one scorer per file."""

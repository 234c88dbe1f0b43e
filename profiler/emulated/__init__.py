"""An engine that is not there: a profile's timing behind an OpenAI-compatible API, in real time."""

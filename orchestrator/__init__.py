"""The CLI, and all that joins the rest: service files, deploy targets, simulation, reports."""

"""Where an ingress shows what it knows."""

METRICS_PATH = "/metrics"
DASHBOARD_PATH = "/dashboard"
LIVE_PATH = "/orchestrator/live"
INGRESS_TARGETS_PATH = "/orchestrator/targets/ingress"
ENGINE_TARGETS_PATH = "/orchestrator/targets/engines"
EXPLAIN_PATH = "/orchestrator/explain/{request_id}"

"""How good a router is: the field's metrics, and the comparison of routers on the same data."""

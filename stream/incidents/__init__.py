"""Anomalies that belong together, and who is told of them."""

"""Telemetry in files: sent to Kafka, scored, replayed, drawn."""

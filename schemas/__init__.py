"""Contracts: what travels on a topic, in a table, in the configuration file. No I/O."""

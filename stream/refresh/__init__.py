"""Fitted models: when they are due, who fits them, where they are kept."""

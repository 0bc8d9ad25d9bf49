"""The configuration of a process: found, read and checked."""

from stream.config.loader import SECRETS, ConfigError, Loaded, config_hash, find, load, parse, shown

__all__ = ["SECRETS", "ConfigError", "Loaded", "config_hash", "find", "load", "parse", "shown"]

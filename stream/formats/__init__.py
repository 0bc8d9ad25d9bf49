"""Input formats: one module each, found by its entry point in the group ``tocsin.formats``."""

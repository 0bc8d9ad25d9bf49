"""Detection as pure computation: arrays in, arrays out, no I/O and no clock."""

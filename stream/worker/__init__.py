"""The hot path: a member of the consumer group, its partitions, and the state that they keep."""

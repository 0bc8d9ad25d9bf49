"""Everything that touches the outside: Kafka, ClickHouse, clocks, processes."""

"""The shell around the core: Kafka, HTTP, timers, operation."""

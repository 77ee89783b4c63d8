"""The tape: the ordered, durable log of a dataset, in NATS JetStream."""

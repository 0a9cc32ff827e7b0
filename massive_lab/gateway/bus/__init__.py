"""Replicas of the gateway with NATS between them: one holds the upstream of a key and cluster, all are fed by it."""

"""What `secretsctl broker setup` writes for Mosquitto: its listener, its passwords and its ACL (docs/broker.md)."""

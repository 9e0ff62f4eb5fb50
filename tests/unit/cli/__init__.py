"""secretsctl."""

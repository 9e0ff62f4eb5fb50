"""Who uses which version of a secret, as the audit log tells it (docs/consumers.md)."""

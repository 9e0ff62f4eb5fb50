"""What Home Assistant is told (docs/home-assistant.md): discovery, an overview, and events. It commands nothing."""

"""The document, its file, and the vault on top."""

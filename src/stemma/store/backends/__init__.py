"""Where bytes rest: one ``BlobBackend`` Protocol, several implementations."""

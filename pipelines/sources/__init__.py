"""Sources: one adapter per format in the wild. An adapter reads; it never writes to the lake and never re-encodes."""

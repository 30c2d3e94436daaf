"""Wire formats: bytes in, bytes out. Nothing here knows the lake, and nothing here needs TensorFlow."""

"""Exporters: from the lake's episodes to a format other tools read. Encoded video is copied, never decoded and encoded again."""

"""RLDS out: TFDS-readable TFRecords written without TensorFlow, and verified by TFDS itself in a process of its own.

An export is `<folder>/<version>/`, which `tfds.builder_from_directory` opens; where the folder carries the dataset's TFDS name,
`tfds.builder(name, data_dir=<its parent>)` opens it too.
"""

from pipelines.exporters.rlds.exporter import RldsExporter as RldsExporter

"""The known export formats."""

from schemas.registry import Registry

EXPORTERS = Registry(
    "exporter",
    "cotrain.exporters",
    {
        "lerobot": "pipelines.exporters.lerobot:LeRobotExporter",
        "rlds": "pipelines.exporters.rlds:RldsExporter",
    },
)

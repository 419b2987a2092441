"""How a run is carried out: one object that travels from a stage to whatever it calls."""

from dataclasses import dataclass
from pathlib import Path
from typing import Self

from pipeline.hardware.device import Placement, choose_placement
from pipeline.hardware.memory import keep_freed_memory
from pipeline.hardware.processes import ONE_PROCESS, Processes
from pipeline.params.schema import RuntimeParams


@dataclass(frozen=True)
class Execution:
    """How a run is carried out, as opposed to what it computes.

    Attributes:
        placement: device and precision.
        runtime: the section `runtime` of params.yaml.
        scratch: folder of the stage's unfinished work.
        processes: this process's place among those of the run.
    """

    placement: Placement
    runtime: RuntimeParams
    scratch: Path
    processes: Processes = ONE_PROCESS

    @classmethod
    def start(cls, runtime: RuntimeParams, scratch: Path) -> Self:
        """Choose the device of `runtime`, for one process. PipelineError where it is not available."""
        keep_freed_memory()
        return cls(choose_placement(runtime.device), runtime, scratch)

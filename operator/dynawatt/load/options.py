"""Objectives as users write them on the command line."""

from dynawatt.errors import InvalidInputError
from dynawatt.quantities import seconds
from dynawatt.workload.objectives import LatencyObjectives


def parse_objectives(ttft: str, tbt_ms: float) -> LatencyObjectives:
    """Objectives from ``256:250,1024:400,2000``: longest input and milliseconds, the last without a length.

    Raises InvalidInputError.
    """
    entries: list[tuple[int | None, float]] = []
    for part in ttft.split(","):
        bound, colon, milliseconds = part.rpartition(":")
        try:
            entries.append((int(bound) if colon else None, seconds(float(milliseconds))))
        except ValueError as error:
            raise InvalidInputError(
                f"--ttft {ttft}: {part!r} must be MAX_INPUT_TOKENS:MILLISECONDS, or MILLISECONDS in the last place"
            ) from error
    try:
        return LatencyObjectives(tuple(entries), seconds(tbt_ms))
    except InvalidInputError as error:
        raise InvalidInputError(f"--ttft {ttft} --tbt-ms {tbt_ms:g}: {error}") from error

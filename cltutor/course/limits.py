"""What a submission may use; apart from `isolate.py`, which only Linux can import."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """What a student's process may use: seconds, MB on top of what Python has, processes."""

    seconds: float = 10.0
    memory: int = 1024
    processes: int = 8
    files: int = 32
    scratch: int = 16  # MB; also the largest file

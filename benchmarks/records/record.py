"""Records of measurements: one JSON object per line, appended as they are made.

A record is self-contained: what was measured with which parameters, the raw samples, the outcome,
and by which code, on which machine and with which versions. Reports read records and nothing else.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from benchmarks.records.names import Choice
from benchmarks.records.settings import FIELD, method_text

SCHEMA = 1
"""Version of the fields below."""


class Status(Choice):
    """Outcome of a measurement."""

    OK = "ok"
    OUT_OF_MEMORY = "oom"
    TIMEOUT = "timeout"
    SKIPPED = "skipped"
    ERROR = "error"


class Quantity(Choice):
    """What was measured; the unit follows from it."""

    TIME = "time"
    MEMORY = "memory"
    ACCURACY = "accuracy"
    SPECTRUM = "spectrum"
    STEP = "step"
    DERIVATIVES = "derivatives"
    RESULT = "result"
    """Of a task that has a reference of its own: what it gives, or random projections of it."""
    PROBE = "probe"
    """Whether a batch size fits into a budget, and its peak memory if it does."""
    CRITICAL = "critical_batch_size"
    TEST_ACCURACY = "test_accuracy"
    """After each epoch of a training, from before the first on."""
    OVERLAP = "overlap"
    """Of two eigenspaces: 0 if they are orthogonal, 1 if they are the same."""
    CURVATURE_ERROR = "curvature_error"
    """Of directional curvatures on a mini-batch, relative to those on all data."""
    SIGNAL_TO_NOISE = "signal_to_noise"
    """Squared mean of directional derivatives over their variance between samples."""
    DISTANCE = "distance"
    """From the minimum, in the end."""
    LOSS = "loss"
    """Somewhere near the parameters of a network."""
    CURVATURE = "curvature"
    """Along directions, on several mini-batches."""
    ANGLE = "angle"
    """Between two steps."""
    CALLS = "calls"
    """Of operations, in a run."""
    TRAFFIC = "traffic"
    """Read and written by these operations."""
    FLOPS = "flops"
    """Of products of matrices and convolutions."""
    WAITS = "waits"
    """Times that a program waits for a number, and on a GPU for all that it has launched."""
    LIMIT = "limit"
    """The least time that the counted operations could take on the machine."""

    @property
    def unit(self) -> str:
        """Unit of the samples: 1 for ratios, such as accuracies, which are relative errors."""
        units = {
            Quantity.TIME: "s",
            Quantity.MEMORY: "bytes",
            Quantity.SPECTRUM: "loss / parameter^2",
            Quantity.STEP: "parameter",
            Quantity.DERIVATIVES: "loss",
            Quantity.RESULT: "of the task",
            Quantity.PROBE: "bytes",
            Quantity.CRITICAL: "samples",
            Quantity.DISTANCE: "parameter",
            Quantity.LOSS: "loss",
            Quantity.CURVATURE: "loss / parameter^2",
            Quantity.ANGLE: "degree",
            Quantity.CALLS: "calls",
            Quantity.TRAFFIC: "bytes",
            Quantity.FLOPS: "flops",
            Quantity.WAITS: "waits",
            Quantity.LIMIT: "s",
        }
        return units.get(self, "1")


class RecordError(ValueError):
    """A file of records that cannot be read; the message names the file and line."""


@dataclass(frozen=True)
class Record:
    """One measurement.

    Attributes:
        suite: Name of the suite.
        problem: Name of the problem.
        method: Name of the method; ``"reference"`` for a float64 reference.
        quantity: What was measured.
        parameters: Everything the measurement depends on: batch size, task, device, dtype, seed,
            threads, repeats, whether the data is real or synthetic, and the settings of the
            method that are not its own.
        status: The outcome.
        samples: Raw values; empty unless the status is ok.
        unit: Unit of the samples.
        reason: Why the status is not ok.
        details: Facts about the result: number of parameters D, of columns, iterations, ....
        environment: Code, machine and versions; see `identity`.
        time: When the measurement ended, ISO 8601 with time zone.
        schema: Version of these fields.
    """

    suite: str
    problem: str
    method: str
    quantity: Quantity
    parameters: dict[str, Any]
    status: Status
    samples: list[float]
    unit: str
    reason: str = ""
    details: dict[str, Any] = field(default_factory=dict)
    environment: dict[str, Any] = field(default_factory=dict)
    time: str = ""
    schema: int = SCHEMA

    @property
    def key(self) -> str:
        """Identifies the cell: equal for repetitions of the same measurement."""
        return cell_key(
            self.suite, self.problem, self.method, self.quantity.value, self.parameters
        )

    @property
    def text(self) -> str:
        """Its method with those settings that are not the method's own."""
        return method_text(self.method, self.parameters.get(FIELD, {}))

    def to_json(self) -> str:
        """One line of JSON; floats that JSON lacks are refused."""
        return json.dumps(asdict(self), sort_keys=True, allow_nan=False)

    @classmethod
    def from_json(cls, line: str) -> Record:
        """Parse one line.

        Args:
            line: What `to_json` gave.

        Returns:
            The record.

        Raises:
            ValueError: The line is not a record of this schema.
        """
        values = json.loads(line)
        expected = {f.name for f in fields(cls)}
        if not isinstance(values, dict) or set(values) != expected:
            found = sorted(values) if isinstance(values, dict) else type(values).__name__
            raise ValueError(f"expected the fields {sorted(expected)}, got {found}")
        if values["schema"] != SCHEMA:
            raise ValueError(f"expected schema {SCHEMA}, got {values['schema']}")
        quantity, status = Quantity(values.pop("quantity")), Status(values.pop("status"))
        return cls(quantity=quantity, status=status, **values)


def identity(environment: Mapping[str, Any]) -> dict[str, Any]:
    """What of an environment decides whether measurements would be the same again.

    Args:
        environment: Of a record.

    Returns:
        Machine, versions and the hash of the code; of older records, which have none, commit and
        changes instead. What is not recorded is None.
    """
    code = ("code",) if "code" in environment else ("commit", "dirty", "changes")
    return {name: environment.get(name) for name in (*code, "machine", "versions")}


def cell_key(
    suite: str, problem: str, method: str, quantity: str, parameters: dict[str, Any]
) -> str:
    """Hash of what identifies a measurement.

    Args:
        suite: Name of the suite.
        problem: Name of the problem.
        method: Name of the method.
        quantity: What is measured.
        parameters: Everything the measurement depends on.

    Returns:
        Sixteen hexadecimal digits.
    """
    identity = json.dumps([suite, problem, method, quantity, parameters], sort_keys=True)
    return hashlib.sha256(identity.encode()).hexdigest()[:16]


class RecordStore:
    """An append-only file of records.

    Attributes:
        path: The file; it need not exist.
    """

    def __init__(self, path: Path) -> None:
        """Open the store; nothing is read or written yet."""
        self.path = path

    def append(self, records: Iterable[Record]) -> None:
        """Write records through to disk, all of them in one write.

        Args:
            records: What to append.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("ab") as file:
            fcntl.flock(file, fcntl.LOCK_EX)  # until it is closed
            self._mend_last_line()
            file.write("".join(record.to_json() + "\n" for record in records).encode())
            file.flush()
            os.fsync(file.fileno())

    def read(self) -> list[Record]:
        """All records, in the order in which they were made.

        An incomplete last line is what a killed run leaves; it is dropped, for its cell will be
        measured again.

        Returns:
            The records; none if the file does not exist.

        Raises:
            RecordError: Another line is not a record.
        """
        if not self.path.exists():
            return []
        text = self.path.read_text()
        lines = text.splitlines()
        if lines and not text.endswith("\n") and not self._is_record(lines[-1]):
            lines.pop()
        return [self._parse(line, number) for number, line in enumerate(lines, start=1) if line]

    def _parse(self, line: str, number: int) -> Record:
        try:
            return Record.from_json(line)
        except ValueError as error:
            raise RecordError(f"{self.path}, line {number}: {error}") from error

    def _mend_last_line(self) -> None:
        """Remove what a killed run left of its last line, so that the next one starts clean."""
        data = self.path.read_bytes()
        end = data.rfind(b"\n") + 1
        if end == len(data):
            return
        if self._is_record(data[end:].decode(errors="replace")):
            with self.path.open("ab") as file:
                file.write(b"\n")  # complete, but for its end
        else:
            os.truncate(self.path, end)

    def _is_record(self, line: str) -> bool:
        try:
            Record.from_json(line)
        except ValueError:
            return False
        return True


def merge(target: Path, sources: Iterable[Path]) -> int:
    """Add records of other files, each once: merging again adds nothing.

    Args:
        target: File to append to; it need not exist.
        sources: Files to read.

    Returns:
        How many were added.

    Raises:
        RecordError: A file does not exist, or a line of one is not a record.
    """
    store = RecordStore(target)
    known = {record.to_json() for record in store.read()}
    found: dict[str, Record] = {}
    for source in sources:
        if not source.exists():
            raise RecordError(f"there is no file {source}")
        found.update({record.to_json(): record for record in RecordStore(source).read()})
    added = [record for line, record in found.items() if line not in known]
    store.append(added)
    return len(added)

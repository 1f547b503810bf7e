"""Records on a stream: none is lost in silence, and one bad record ends no other."""

from __future__ import annotations

import io
import threading

import orjson

from audit.record_log import RecordLog


def test_records_come_out_as_lines_in_order() -> None:
    stream = io.BytesIO()
    log = RecordLog(stream)
    for uid in ("a", "b"):
        log.write({"uid": uid})

    log.close()

    assert [orjson.loads(line)["uid"] for line in stream.getvalue().splitlines()] == ["a", "b"]


def test_a_record_that_is_no_json_is_counted_and_the_next_is_written() -> None:
    stream, drops = io.BytesIO(), []
    log = RecordLog(stream, on_drop=lambda: drops.append(1))
    log.write({"uid": "bad", "value": 2**70})
    log.write({"uid": "good"})

    log.close()

    assert b"good" in stream.getvalue()
    assert len(drops) == 1


def test_records_beyond_the_capacity_are_counted_and_nobody_waits() -> None:
    reading, drops = threading.Event(), []

    class Stuck(io.BytesIO):
        def write(self, data: object) -> int:
            reading.wait(10)
            return super().write(data)  # type: ignore[arg-type]  # whatever the log writes

    log = RecordLog(Stuck(), on_drop=lambda: drops.append(1), capacity=2)

    for uid in range(5):
        log.write({"uid": str(uid)})

    assert drops
    reading.set()
    log.close()

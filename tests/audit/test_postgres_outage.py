"""The service while its database is killed and comes back: it goes on answering, and every decision is kept."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

from audit.postgres_records import PostgresRecords
from audit.records import RecordsError
from audit.verification import verify
from tests.audit.postgres import Postgres, postgres
from tests.audit.sealed import KEY, key_files, public
from tests.controlplane.waiting import wait_until
from tests.http.service import pod, post, review, running

_LIMIT = 60


def _uids(server: Postgres) -> set[str]:
    try:
        with closing(PostgresRecords(server.url, server.password_file)) as found:
            return {str(row[0]) for row in found._rows("SELECT uid FROM records", ())}
    except RecordsError:
        return set()


def test_answers_go_on_while_the_database_is_gone_and_all_of_them_are_there_afterwards(tmp_path: Path) -> None:
    private, _ = key_files(tmp_path)
    asked: list[str] = []
    with postgres() as server:
        audit = {
            "postgres": {
                "url": server.url, "passwordFile": str(server.password_file), "waiting": str(tmp_path / "waiting"),
            },
            "signingKey": str(private),
        }  # fmt: skip
        with running(tmp_path / "service", {"audit": audit}) as service:
            with service.connection() as connection:

                def ask(number: int) -> None:
                    for _ in range(number):
                        asked.append(f"u-{len(asked)}")
                        answer = post(connection, "/validate", review(pod(), asked[-1]))
                        assert answer.response["uid"] == asked[-1]

                ask(50)
                wait_until(lambda: set(asked) <= _uids(server), "the first decisions", _LIMIT)
                server.kill()
                # An answer is given before its record is stored, so that these would hang if it were not.
                ask(200)
                server.start()
                ask(50)
            assert service.end() == 0

        assert _uids(server) == set(asked)
        with closing(PostgresRecords(server.url, server.password_file)) as found:
            verified = verify(found.entries(), public(KEY), whole=True, uncovered=0)
        assert (verified.records, verified.all_problems) == (len(asked), ())

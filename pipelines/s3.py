"""One connection to S3 for a process, where Beam would make one for each operation.

Beam's file system builds a boto3 client whenever a file is opened or asked for, which takes a
tenth of a second of CPU and a new connection each time. Clients of boto3 may be shared between
threads, so here all operations with the same options get the same one.
"""

from __future__ import annotations

import functools
import types
from typing import Any


@functools.cache
def share_clients() -> None:
    """From now on Beam's S3 operations in this process share their clients. Does nothing twice.

    Without boto3 it does nothing at all: Beam itself then says what is missing.
    """
    try:
        import boto3
        from apache_beam.io.aws.clients.s3 import boto3_client
    except ImportError:
        return

    @functools.cache
    def client(**settings: Any) -> Any:
        return boto3.session.Session().client(**settings)

    session = types.SimpleNamespace(Session=lambda: types.SimpleNamespace(client=client))
    boto3_client.boto3 = types.SimpleNamespace(session=session)

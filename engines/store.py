"""An object store that speaks S3, on loopback, with its data in a folder of its own."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engines import fetch
from engines.processes import Service, free_port, workspace

ACCESS_KEY = "cidermill"
SECRET_KEY = "cidermill-on-loopback"
REGION = "us-east-1"


@dataclass
class Store:
    """A running store."""

    folder: Path
    port: int
    service: Service | None = None

    @property
    def endpoint(self) -> str:
        """Where it answers."""
        return f"http://127.0.0.1:{self.port}"

    def options(self, endpoint: str = "") -> list[str]:
        """Options for ``cidermill curate``; ``endpoint`` for one that stands before the store."""
        return [
            f"--s3_endpoint_url={endpoint or self.endpoint}",
            f"--s3_access_key_id={ACCESS_KEY}",
            f"--s3_secret_access_key={SECRET_KEY}",
            f"--s3_region_name={REGION}",
        ]

    def client(self) -> Any:
        """A boto3 client of the store."""
        import boto3

        return boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            aws_access_key_id=ACCESS_KEY,
            aws_secret_access_key=SECRET_KEY,
            region_name=REGION,
        )

    def start(self) -> None:
        """Start it on its port and its data."""
        self.service = Service(
            "store",
            [
                str(fetch.store_program()), "server", str(self.folder / "data"),
                "--address", f"127.0.0.1:{self.port}", "--quiet",
                "--console-address", f"127.0.0.1:{free_port()}",
            ],
            self.folder,
            {"MINIO_ROOT_USER": ACCESS_KEY, "MINIO_ROOT_PASSWORD": SECRET_KEY,
             "MINIO_UPDATE": "off", "MINIO_BROWSER": "off"},
        )  # fmt: skip
        self.service.wait_for(self.port)

    def stop(self) -> None:
        """Stop it; its data stay."""
        if self.service is not None:
            self.service.stop()


@contextlib.contextmanager
def store() -> Iterator[Store]:
    """A store while the block runs."""
    with workspace("store") as folder:
        running = Store(folder, free_port())
        running.start()
        try:
            yield running
        finally:
            running.stop()

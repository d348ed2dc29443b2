"""An object store that speaks S3, on loopback, with its data in a folder of its own."""

from __future__ import annotations

import contextlib
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engines import fetch
from engines.ports import free_port
from engines.processes import NotStarted, Service, workspace

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

    def make_bucket(self, name: str) -> None:
        """Make a bucket; S3 wants three to 63 characters of lower case."""
        self.client().create_bucket(Bucket=name)

    def start(self) -> None:
        """Start it, or start it again, on its port and its data."""
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
        self.service.wait_until(self._ready, f"serves {self.endpoint}")

    def stop(self) -> None:
        """Stop it at once, as an outage would; its data stay."""
        if self.service is not None:
            self.service.stop()

    def services(self) -> list[Service]:
        """Its process, where it runs."""
        return [self.service] if self.service is not None and self.service.alive else []

    def _ready(self) -> bool:
        # It listens before it serves.
        with contextlib.suppress(OSError):
            address = f"{self.endpoint}/minio/health/ready"
            with urllib.request.urlopen(address, timeout=10) as answer:
                return bool(answer.status == 200)
        return False


@contextlib.contextmanager
def store() -> Iterator[Store]:
    """A store while the block runs.

    Raises:
      NotStarted: it was not fetched, or it does not start.
    """
    if not fetch.store_program().exists():
        raise NotStarted(f"no store in {fetch.cache()}; run: python -m engines fetch store")
    with workspace("store") as folder:
        running = Store(folder, free_port())
        try:
            running.start()
            yield running
        finally:
            running.stop()

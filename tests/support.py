"""What several tests share and fixtures hand out."""

from dataclasses import dataclass


@dataclass(frozen=True)
class ClickHouseAddress:
    """Where a test finds its own empty database."""

    host: str
    port: int
    database: str

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}"

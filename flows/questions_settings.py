"""Settings of the judging of questions."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator


class QuestionSettings(BaseModel):
    """Section ``flows.questions``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    url: str = Field(
        "",
        description="Base URL of an API like OpenAI's. Empty: rules judge every question.",
    )
    model: str = Field("", description="Its model that judges. Empty: rules judge every question.")
    key: SecretStr | None = Field(None, description="Its API key, if it wants one.")
    timeout_seconds: float = Field(20.0, gt=0, le=600, description="Longest wait for an answer.")
    backoff_seconds: float = Field(
        0.5, ge=0, le=10, description="Wait before the second try of a request; doubles."
    )
    max_requests: int = Field(
        200, ge=0, description="Requests in a run, tries included; rules judge what is left."
    )
    concurrency: int = Field(4, ge=1, le=64, description="Requests under way at once.")

    @field_validator("key")
    @classmethod
    def _is_printable(cls, key: SecretStr | None) -> SecretStr | None:
        """A key travels in a header, where nothing but printable ASCII can stand."""
        text = key.get_secret_value() if key else ""
        if not (text.isascii() and (text.isprintable() or not text)):
            raise ValueError("must be printable ASCII")
        return key

"""Errors of the API as problem details (RFC 9457)."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from stream.errors import UserError
from stream.kafka import KafkaError
from stream.store.clickhouse import RefusedError, UnavailableError

MEDIA_TYPE: Final = "application/problem+json"


class ProblemError(Exception):
    """An answer other than the one asked for; ``detail`` is a sentence that says what to do."""

    def __init__(
        self,
        status: HTTPStatus,
        detail: str,
        headers: Mapping[str, str] | None = None,
        **more: Any,
    ) -> None:
        super().__init__(detail)
        self.status, self.detail, self.headers, self.more = status, detail, headers, more


def answer(status: int, detail: str, headers: Mapping[str, str] | None = None, **more: Any) -> JSONResponse:
    """The response; ``type`` is about:blank, so the title is that of the status code."""
    body = {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status, "detail": detail}
    return JSONResponse(body | more, status, headers, MEDIA_TYPE)


def install(app: FastAPI) -> None:
    """Answer every error that a request can cause in this form."""

    @app.exception_handler(ProblemError)
    async def _problem(_: Request, error: ProblemError) -> JSONResponse:
        return answer(error.status, error.detail, error.headers, **error.more)

    @app.exception_handler(HTTPException)
    async def _http(_: Request, error: HTTPException) -> JSONResponse:
        return answer(error.status_code, str(error.detail), error.headers)

    @app.exception_handler(RequestValidationError)
    async def _invalid(_: Request, error: RequestValidationError) -> JSONResponse:
        errors = [{"pointer": _pointer(each["loc"]), "detail": str(each["msg"])} for each in error.errors()]
        told = "; ".join(f"{each['pointer']}: {each['detail']}" for each in errors[:3])
        return answer(HTTPStatus.UNPROCESSABLE_ENTITY, told, errors=errors)

    @app.exception_handler(RefusedError)
    async def _refused(_: Request, error: RefusedError) -> JSONResponse:
        return answer(HTTPStatus.BAD_REQUEST, str(error))

    @app.exception_handler(UserError)
    async def _user(_: Request, error: UserError) -> JSONResponse:
        return answer(HTTPStatus.BAD_REQUEST, str(error))

    @app.exception_handler(KafkaError)
    @app.exception_handler(TimeoutError)
    async def _no_broker(_: Request, error: Exception) -> JSONResponse:
        detail = f"Kafka does not answer: {error or 'timeout'}"
        return answer(HTTPStatus.SERVICE_UNAVAILABLE, detail, {"Retry-After": "5"})

    @app.exception_handler(UnavailableError)
    async def _unavailable(_: Request, error: UnavailableError) -> JSONResponse:
        return answer(HTTPStatus.SERVICE_UNAVAILABLE, str(error), {"Retry-After": "5"})


def _pointer(location: tuple[Any, ...]) -> str:
    """Where in the request, as ``/body/models/0``."""
    return "/" + "/".join(str(each) for each in location)

"""User name and password, the same words in every probe that can log in."""

from __future__ import annotations

import os
from pathlib import Path

from pydantic import Field, field_validator, model_validator

from hawatch.plugin import Options

PASSWORD_FILE_LIMIT = 4096


class LoginOptions(Options):
    """Options of a login. Without a user name there is none."""

    username: str = Field(default="", max_length=256, description="log in as this user; default: no login")
    password: str = Field(default="", max_length=256, repr=False, description="the user's password")
    password_file: str = Field(
        default="", description="file whose first line is the password, read when the probe is made"
    )

    @field_validator("username", "password")
    @classmethod
    def _one_line(cls, value: str) -> str:
        if any(character in value for character in "\r\n\0"):
            raise ValueError("must be one line")
        return value

    @model_validator(mode="after")
    def _whole(self) -> LoginOptions:
        if self.password and self.password_file:
            raise ValueError("password and password_file exclude each other")
        if bool(self.username) != bool(self.password or self.password_file):
            raise ValueError("username needs password or password_file, and they need username")
        return self


def load_password(options: LoginOptions) -> tuple[str, str]:
    """Return the password, and why there is none ("" when there is or none is wanted)."""
    if not options.password_file:
        return options.password, ""
    try:
        with Path(options.password_file).open("rb") as file:
            text = file.read(PASSWORD_FILE_LIMIT).decode("utf-8").split("\n")[0].rstrip("\r")
    except OSError as error:
        return "", f"{options.password_file} cannot be read: {os.strerror(error.errno or 0)}"
    except UnicodeDecodeError:
        return "", f"{options.password_file} is not UTF-8"
    return text, "" if text else f"{options.password_file} has no password in its first line"

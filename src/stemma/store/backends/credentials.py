"""Where the credentials of a bucket come from: what login stored for it, else the usual places.

Invariants:
    * What ``stemma remote login`` stored for an address is used before everything else: it was
      given for this address alone, and the environment for all of them.
    * Without credentials anywhere nothing is asked of the bucket; a machine in the cloud, which
      has its own, is recognised within a second.

Opening a bucket with them is ``stemma.store.backends.cloud``; storing what login is told is
``stemma.store.backends.logins``.
"""

from __future__ import annotations

import configparser
import json
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from stemma.domain.errors import DeniedError
from stemma.store.backends.addresses import Address

if TYPE_CHECKING:
    from obstore.store import AzureConfig, AzureCredential, GCSConfig, S3Config, S3Credential

_METADATA_HOST: Final = ("169.254.169.254", 80)
_METADATA_SECONDS: Final = 1.0

_OWN_MACHINE: Final = {
    "s3": (
        "AWS_ACCESS_KEY_ID",
        "AWS_WEB_IDENTITY_TOKEN_FILE",
        "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
        "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    ),
    "gs": (
        "GOOGLE_APPLICATION_CREDENTIALS",
        "GOOGLE_SERVICE_ACCOUNT",
        "GOOGLE_SERVICE_ACCOUNT_PATH",
        "GOOGLE_SERVICE_ACCOUNT_KEY",
        "GOOGLE_BEARER_TOKEN",
        "STORAGE_EMULATOR_HOST",
    ),
    "az": (
        "AZURE_STORAGE_ACCOUNT_KEY",
        "AZURE_STORAGE_ACCESS_KEY",
        "AZURE_STORAGE_SAS_KEY",
        "AZURE_STORAGE_SAS_TOKEN",
        "AZURE_STORAGE_TOKEN",
        "AZURE_CLIENT_SECRET",
        "AZURE_STORAGE_CLIENT_SECRET",
        "AZURE_FEDERATED_TOKEN_FILE",
        "IDENTITY_ENDPOINT",
        "AZURE_STORAGE_USE_AZURE_CLI",
        "AZURE_USE_AZURE_CLI",
        "AZURE_STORAGE_USE_EMULATOR",
    ),
}
"""Variables of which one is enough to open a bucket of a scheme."""

_ANONYMOUS: Final = {
    "s3": "AWS_SKIP_SIGNATURE",
    "gs": "GOOGLE_SKIP_SIGNATURE",
    "az": "AZURE_SKIP_SIGNATURE",
}
_YES: Final = frozenset({"1", "true", "yes"})


@dataclass(frozen=True, slots=True, kw_only=True)
class _Profile:
    """What the files of the AWS command line say for one profile."""

    credentials: Mapping[str, str]
    settings: Mapping[str, str]


def no_credentials(address: Address) -> DeniedError:
    """Return the error for an address that nothing gives credentials for."""
    return DeniedError(
        f"no credentials for {address.url}",
        code="no-credentials",
        hint=f"stemma remote login {address.url}",
    )


def s3_config(address: Address, variables: Mapping[str, str], login: Mapping[str, str]) -> S3Config:
    """Return what the environment does not say itself: the profile's keys, region, endpoint.

    Raises:
        DeniedError: If there are no credentials anywhere.
    """
    if login:
        region = login.get("AWS_REGION") or variables.get("AWS_REGION", "us-east-1")
        told: S3Config = {"region": region}
        if "AWS_ENDPOINT_URL" in login:
            told["endpoint"] = login["AWS_ENDPOINT_URL"]
        return told
    profile = _read_profile(variables)
    config: S3Config = {}
    if not variables.get("AWS_ACCESS_KEY_ID") and "aws_access_key_id" in profile.credentials:
        config["access_key_id"] = profile.credentials["aws_access_key_id"]
        config["secret_access_key"] = profile.credentials.get("aws_secret_access_key", "")
        if "aws_session_token" in profile.credentials:
            config["session_token"] = profile.credentials["aws_session_token"]
    elif not _has_credentials(address, variables):
        raise no_credentials(address)
    if not variables.get("AWS_REGION") and not variables.get("AWS_DEFAULT_REGION"):
        config["region"] = profile.settings.get("region", "us-east-1")
    if "endpoint_url" in profile.settings and not s3_endpoint({}, variables):
        config["endpoint"] = profile.settings["endpoint_url"]
    return config


def s3_endpoint(config: S3Config, variables: Mapping[str, str]) -> str:
    """Return the server that speaks S3; empty for Amazon's own."""
    if "endpoint" in config:
        return config["endpoint"]
    names = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT")
    return next((variables[name] for name in names if variables.get(name)), "")


def s3_provider(login: Mapping[str, str]) -> Callable[[], S3Credential] | None:
    """Return what gives the keys that login stored, so that none of the environment mixes in."""
    if not login:
        return None
    credential: S3Credential = {
        "access_key_id": login["AWS_ACCESS_KEY_ID"],
        "secret_access_key": login["AWS_SECRET_ACCESS_KEY"],
        "token": login.get("AWS_SESSION_TOKEN"),
        "expires_at": None,
    }
    return lambda: credential


def google_config(
    address: Address, variables: Mapping[str, str], login: Mapping[str, str]
) -> GCSConfig:
    """Return what the environment does not say in obstore's words.

    Raises:
        DeniedError: If there are no credentials anywhere.
    """
    if login:
        return {"service_account_key": login["GOOGLE_SERVICE_ACCOUNT_KEY"]}
    home = Path(variables.get("HOME", "/nonexistent")) / ".config" / "gcloud"
    is_logged_in = (home / "application_default_credentials.json").is_file()
    if not is_logged_in and not _has_credentials(address, variables):
        raise no_credentials(address)
    emulator = variables.get("STORAGE_EMULATOR_HOST", "")
    if not emulator:
        return {}
    # Google's own libraries take both forms.
    url = emulator if "://" in emulator else f"http://{emulator}"
    # An account that signs nothing; skipping signatures alone still asks the machine for one.
    account = {
        "gcs_base_url": url,
        "disable_oauth": True,
        "client_email": "",
        "private_key": "",
        "private_key_id": "",
    }
    return {"base_url": url, "service_account_key": json.dumps(account)}


def google_endpoint(config: GCSConfig, variables: Mapping[str, str]) -> str:
    """Return the server that speaks to us in Google's words; empty for Google's own."""
    return config.get("base_url", "") or variables.get("GOOGLE_BASE_URL", "")


def azure_config(
    address: Address, variables: Mapping[str, str], login: Mapping[str, str]
) -> AzureConfig:
    """Return what the environment does not say itself.

    Raises:
        DeniedError: If there are no credentials anywhere, or no account is named.
    """
    if login:
        told: AzureConfig = {"account_name": login["AZURE_STORAGE_ACCOUNT_NAME"]}
        if "AZURE_STORAGE_ENDPOINT" in login:
            told["endpoint"] = login["AZURE_STORAGE_ENDPOINT"]
        return told
    is_emulated = variables.get("AZURE_STORAGE_USE_EMULATOR", "").lower() in _YES
    has_account = is_emulated or variables.get("AZURE_STORAGE_ACCOUNT_NAME")
    if not has_account or not _has_credentials(address, variables):
        raise no_credentials(address)
    return {}


def azure_provider(login: Mapping[str, str]) -> Callable[[], AzureCredential] | None:
    """Return what gives the key or token that login stored."""
    if not login:
        return None
    credential: AzureCredential
    if "AZURE_STORAGE_ACCOUNT_KEY" in login:
        credential = {"access_key": login["AZURE_STORAGE_ACCOUNT_KEY"], "expires_at": None}
    else:
        credential = {"sas_token": login["AZURE_STORAGE_SAS_TOKEN"], "expires_at": None}
    return lambda: credential


def azure_endpoint(config: AzureConfig, variables: Mapping[str, str]) -> str:
    """Return the server that speaks Azure's words; empty for Azure's own."""
    if "endpoint" in config:
        return config["endpoint"]
    if variables.get("AZURE_STORAGE_USE_EMULATOR", "").lower() in _YES:
        return "http://"
    names = ("AZURE_STORAGE_ENDPOINT", "AZURE_ENDPOINT")
    return next((variables[name] for name in names if variables.get(name)), "")


def _read_profile(variables: Mapping[str, str]) -> _Profile:
    # Not Path.home(), which raises for a user without a home, as many containers have.
    home = Path(variables.get("HOME", "/nonexistent")) / ".aws"
    name = variables.get("AWS_PROFILE") or "default"
    keys = _read_ini(Path(variables.get("AWS_SHARED_CREDENTIALS_FILE") or home / "credentials"))
    settings = _read_ini(Path(variables.get("AWS_CONFIG_FILE") or home / "config"))
    of_profile = settings.get(name if name == "default" else f"profile {name}", {})
    return _Profile(credentials={**of_profile, **keys.get(name, {})}, settings=of_profile)


def _read_ini(path: Path) -> dict[str, dict[str, str]]:
    parser = configparser.RawConfigParser()
    try:
        parser.read_string(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, configparser.Error):
        return {}  # as if it were not there: the environment may say all that is needed
    return {section: dict(parser[section]) for section in parser.sections()}


def _has_credentials(address: Address, variables: Mapping[str, str]) -> bool:
    """Whether anything can give credentials; asks a machine in the cloud for a second at most."""
    if any(variables.get(name) for name in _OWN_MACHINE[address.scheme]):
        return True
    if variables.get(_ANONYMOUS[address.scheme], "").lower() in _YES:
        return True  # a bucket that everybody may read
    if variables.get("AWS_EC2_METADATA_DISABLED", "").lower() == "true":
        return False
    try:
        socket.create_connection(_METADATA_HOST, timeout=_METADATA_SECONDS).close()
    except OSError:
        return False
    return True

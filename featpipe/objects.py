"""Object stores: which addresses are ones, how they are opened, and what their errors mean in words.

Credentials come from the environment alone (``AWS_ACCESS_KEY_ID`` and so on, as obstore reads them), never from an
address. No message repeats an address that may hold one, nor what a service answered, which may name its user.
"""

from __future__ import annotations

import os
import re
from ipaddress import ip_address
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from featpipe.errors import FeatpipeError, Location, Problem, key_path

SCHEMES = {"s3": "S3Store", "gs": "GCSStore", "az": "AzureStore"}
"""Of the addresses that are opened, and which of obstore's classes does."""
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_SIGNED = re.compile(r"[?&;][\w.-]+=")
_ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT")
_KEYS = {
    "s3": "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_SKIP_SIGNATURE=true for a public bucket",
    "gs": "GOOGLE_APPLICATION_CREDENTIALS, or GOOGLE_SKIP_SIGNATURE=true for a public bucket",
    "az": "AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY",
}


class ObjectsError(FeatpipeError):
    """An object store cannot be opened as its address says."""

    exit_code = 2


class Address(NamedTuple):
    """An address, taken apart."""

    scheme: str
    bucket: str
    prefix: str
    """What follows the bucket, without slashes around it."""

    def __str__(self) -> str:
        return f"{self.scheme}://{self.bucket}" + (f"/{self.prefix}" if self.prefix else "")


def is_url(text: str) -> bool:
    """Tell whether a text is an address, of whatever kind, and no path.

    Examples
    --------
    >>> [is_url(text) for text in ("s3://photos/2024", "photos/2024", "C:/photos")]
    [True, False, False]
    """
    return _URL.match(text) is not None


def parse_url(url: str, location: Location = ()) -> Address:
    """Take the address of an object store apart.

    Parameters
    ----------
    url : str
    location : tuple of str and int
        Of the address in the pipeline file; problems name it.

    Raises
    ------
    ObjectsError
        If it is none that is opened, or holds credentials; they are not repeated.
    """
    scheme = url.partition("://")[0].lower()
    rest = url.partition("://")[2]
    bucket, _, prefix = rest.partition("/")

    def refused(what: str, change: str) -> ObjectsError:
        return ObjectsError(Problem(key_path(location) or f"{scheme}://…", what, change, location))

    if "@" in bucket or _SIGNED.search(rest):
        what = f"the {scheme}:// address holds credentials, which would end up in reports and stores."
        raise refused(what, "Take them out of it and put them into the environment, and change them if others saw it.")
    if scheme in {"http", "https"}:
        what = f"{scheme}:// is not read: a web address tells neither what there is beside it nor whether it changes."
        raise refused(
            what, "Download the files and give their path, or give the bucket they are in as s3://, gs:// or az://."
        )
    if scheme == "file":
        raise refused("file:// is not read.", "Give the path alone.")
    if scheme not in SCHEMES:
        raise refused(f"{scheme}:// is not read; {', '.join(f'{name}://' for name in SCHEMES)} are.", "")
    if not _BUCKET.fullmatch(bucket):
        raise refused("the address names no bucket.", f"Write it as {scheme}://BUCKET/PATH.")
    parts = prefix.strip("/").split("/") if prefix.strip("/") else []
    if any(part in {"", ".", ".."} for part in parts) or not prefix.isprintable():
        what = "an address has no empty parts, no . and no .., and only characters that can be printed."
        raise refused(what, f"Write it as {scheme}://BUCKET/PATH.")
    return Address(scheme, bucket, "/".join(parts))


def open_objects(url: str, location: Location = (), *, retries: int | None = None) -> Any:
    """Open the place in an object store that an address means; nothing is asked of the network yet.

    Plain ``http`` to a service is used on this machine only, or where ``AWS_ALLOW_HTTP`` is set.

    Parameters
    ----------
    url : str
    location : tuple of str and int
        Of the address in the pipeline file.
    retries : int, optional
        How often obstore itself repeats a request that fails; as it chooses, within minutes, unless given.

    Returns
    -------
    obstore.store.ObjectStore
        Whose paths are relative to that place. It holds no credentials: a copy in another process finds its own.

    Raises
    ------
    ObjectsError
        If the address is wrong, or the library is missing.
    """
    address = parse_url(url, location)
    where = key_path(location) or str(address)
    try:
        from obstore import exceptions, store
    except ModuleNotFoundError as error:
        if error.name != "obstore":
            raise
        what = f"{address.scheme}:// needs the package obstore, which is not installed."
        raise ObjectsError(Problem(where, what, "pip install 'featpipe[cloud]'", location)) from None
    options = {"allow_http": True} if address.scheme == "s3" and _plain_endpoint(where, location) else None
    try:
        kind = getattr(store, SCHEMES[address.scheme])
        more = {} if retries is None else {"retry_config": {"max_retries": retries}}
        return kind(address.bucket, prefix=address.prefix or None, client_options=options, **more)
    except (exceptions.BaseError, ValueError) as error:
        raise ObjectsError(object_error(error, str(address), location)) from None


def _plain_endpoint(where: str, location: Location) -> bool:
    """Tell whether the service is on this machine and speaks http; refuse http to any other unless it is allowed."""
    endpoint = next((os.environ[name] for name in _ENDPOINTS if os.environ.get(name)), "")
    if "@" in endpoint:
        what = "the address of the service in AWS_ENDPOINT_URL holds credentials."
        raise ObjectsError(Problem(where, what, "Put them into AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY.", location))
    if not endpoint.lower().startswith("http://") or _is_true(os.environ.get("AWS_ALLOW_HTTP", "")):
        return False
    if not _is_loopback(urlsplit(endpoint).hostname or ""):
        what = "AWS_ENDPOINT_URL is http: what is sent to another machine could be read on the way."
        raise ObjectsError(Problem(where, what, "Use https, or set AWS_ALLOW_HTTP=true.", location))
    return True


def _is_true(text: str) -> bool:
    return text.lower() in {"1", "true", "on", "yes", "y"}


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def object_error(error: BaseException, where: str, location: Location = ()) -> Problem:
    """Return what an exception of obstore means.

    Parameters
    ----------
    error : Exception
    where : str
        The object's or the store's address, without credentials, as ``str(parse_url(url))`` gives it.
    location : tuple of str and int
        Of the address in the pipeline file; it then names the place.
    """
    what, change = explain(error, where.partition("://")[0])
    if location:
        return Problem(key_path(location), f"{where} {what}.", change, location)
    return Problem(where, f"{what}.", change)


def explain(error: BaseException, scheme: str = "s3") -> tuple[str, str]:
    """Return what an exception of obstore means, as the end of a sentence, and what to do about it.

    Only the kind of the exception, its number and its code are told, for the rest may hold names and signatures.
    """
    text = str(error)
    status = _found(r"status code: (\d{3})", text)
    code = _found(r"<Code>([A-Za-z]{1,60})</Code>", text)
    told = " ".join(filter(None, (status, code)))
    kind = type(error).__name__
    keys = f"Set {_KEYS.get(scheme, _KEYS['s3'])}."
    if code in {"NoSuchBucket", "ContainerNotFound"}:
        return "cannot be reached: there is no such bucket", "Check its name, and AWS_ENDPOINT_URL if you use one."
    if code in {"PermanentRedirect", "AuthorizationHeaderMalformed"} or status == "301":
        return f"lies in another region ({told})", "Set AWS_REGION to the bucket's."
    if code in {"InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken"} or status == "401":
        return f"is closed: the credentials are not accepted ({told})", keys
    if isinstance(error, PermissionError) or kind in {"PermissionDeniedError", "UnauthenticatedError"}:
        return f"is closed to these credentials ({told or kind})", keys
    if status == "403":
        return f"is closed to these credentials ({told})", keys
    if isinstance(error, FileNotFoundError) or kind == "NotFoundError" or status == "404":
        return "is not there", ""
    if "169.254.169.254" in text or "metadata.google.internal" in text or "redential" in text.partition("\n")[0]:
        return "cannot be reached: there are no credentials", keys
    if "kind: Timeout" in text or "timed out" in text or "TimedOut" in text:
        return "cannot be reached: the service did not answer in time", "Check the network, and try again."
    if "kind: Connect" in text or "error sending request" in text:
        return "cannot be reached: no service answers", "Check the network, and AWS_ENDPOINT_URL if you use one."
    if "builder error" in text:
        return "cannot be reached: plain http is refused", "Use https, or set AWS_ALLOW_HTTP=true."
    if status:
        return f"cannot be reached: the service failed ({told})", "Try again later."
    return f"cannot be reached ({kind})", ""


def _found(pattern: str, text: str) -> str:
    found = re.search(pattern, text)
    return found.group(1) if found else ""

"""Addresses of object stores, and their errors in words; against a real service."""

from __future__ import annotations

import pickle

import pytest

from featpipe.objects import ObjectsError, explain, is_url, object_error, open_objects, parse_url
from tests.endpoint import KEY, SECRET, Bucket, free_port


def test_an_address_is_taken_apart() -> None:
    assert parse_url("s3://photos/2024/June/") == ("s3", "photos", "2024/June")
    assert str(parse_url("GS://photos")) == "gs://photos"
    assert not is_url("photos/s3")


@pytest.mark.parametrize(
    "url",
    [
        "s3://AKIA77:hunter2@photos/x",
        "s3://hunter2@photos",
        "https://me:hunter2@host/photos",
        "https://photos.s3.amazonaws.com/a.zip?X-Amz-Signature=hunter2",
        "s3://photos/a.zip?AWSAccessKeyId=1&Signature=hunter2",
    ],
)
def test_an_address_with_credentials_is_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(ObjectsError, match="credentials") as refused:
        open_objects(url)
    assert "hunter2" not in str(refused.value)
    assert "AKIA77" not in str(refused.value)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://host/photos", "Download"),
        ("file:///etc", "path alone"),
        ("ftp://host/photos", "s3://, gs://, az://"),
        ("s3://", "no bucket"),
        ("s3:///photos", "no bucket"),
        ("s3://photos/../other", "no .."),
        ("s3://photos/a//b", "empty parts"),
        ("s3://photos/a\nb", "printed"),
    ],
)
def test_what_is_no_place_in_an_object_store_is_refused(url: str, said: str) -> None:
    with pytest.raises(ObjectsError, match=said) as refused:
        parse_url(url, ("images", "path"))
    assert str(refused.value).startswith("images.path: ")
    assert refused.value.exit_code == 2


@pytest.mark.parametrize("url", ["gs://photos/x", "az://photos/x"])
def test_the_other_services_open_without_a_network(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("obstore")
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", "tests")
    assert open_objects(url).prefix == "x"


def test_what_is_written_is_read_relative_to_the_address(bucket: Bucket) -> None:
    bucket.put("a/b c/d%20e.txt", b"hello")
    assert bucket.names() == ["a/b c/d%20e.txt"]
    inside = open_objects(f"{bucket.url}/a/b c")
    assert bytes(inside.get_range("d%20e.txt", start=1, length=3)) == b"ell"


def test_an_opened_store_takes_no_credentials_along(bucket: Bucket) -> None:
    sent = pickle.dumps(bucket.objects)
    assert SECRET.encode() not in sent
    assert KEY.encode() not in sent


def test_errors_are_told_in_words_without_secrets(bucket: Bucket) -> None:
    for url, name, wanted in [("s3://there-is-none", "", "no such bucket"), (bucket.url, "none.png", "is not there")]:
        objects = open_objects(url)
        with pytest.raises(Exception) as raised:  # noqa: PT011 - obstore has no common base with OSError
            objects.get(name) if name else objects.list().collect()
        said = str(object_error(raised.value, url, ("images", "path")))
        assert said.startswith(f"images.path: {url} ")
        assert wanted in said
        assert "<" not in said


def test_what_a_service_answers_is_not_repeated() -> None:
    answer = f"status code: 403 Forbidden: <Code>InvalidAccessKeyId</Code><AWSAccessKeyId>{KEY}</AWSAccessKeyId>"
    said = str(object_error(RuntimeError(answer), "s3://photos"))
    assert "not accepted (403 InvalidAccessKeyId)" in said
    assert KEY not in said


def test_a_service_that_is_down_is_told(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{free_port()}")
    with pytest.raises(Exception) as raised:  # noqa: PT011
        open_objects(bucket.url).head("a")
    assert explain(raised.value)[0] == "cannot be reached: no service answers"


def test_plain_http_to_another_machine_must_be_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("obstore")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://storage.example.org:9000")
    monkeypatch.delenv("AWS_ALLOW_HTTP", raising=False)
    with pytest.raises(ObjectsError, match="AWS_ALLOW_HTTP"):
        open_objects("s3://photos")
    monkeypatch.setenv("AWS_ALLOW_HTTP", "true")
    open_objects("s3://photos")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://me:hunter2@127.0.0.1:9000")
    with pytest.raises(ObjectsError, match="holds credentials") as refused:
        open_objects("s3://photos")
    assert "hunter2" not in str(refused.value)

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit import masking
from audit.masking import MASK, mask, mask_text

TOKEN = "hf_" + "a" * 20


@pytest.mark.parametrize(
    "secret",
    [
        TOKEN,
        "AKIA" + "A1" * 8,
        "ghp_" + "x" * 36,
        "xoxb-" + "1" * 12,
        "eyJhbGciOiJI.eyJzdWIiOiIx.SflKxwRJ",
        "nvapi-" + "y" * 20,
        "sk-" + "z" * 20,
        "-----BEGIN RSA PRIVATE KEY-----\nabc\n-----END RSA PRIVATE KEY-----",
    ],
)
def test_what_looks_like_a_secret_is_masked_anywhere(secret: str) -> None:
    assert mask_text(f"before {secret}").startswith(f"before {MASK}")
    assert secret not in str(mask({"a": [{"b": f"x {secret} y"}]}))


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("https://mia:pass@host/x", f"https://{MASK}@host/x"),
        ("s3://bucket/model@v1", "s3://bucket/model@v1"),
        ("https://h/x?a=1&X-Amz-Signature=abc&b=2", f"https://h/x?a=1&X-Amz-Signature={MASK}&b=2"),
        ("https://acct/x?sig=abc", f"https://acct/x?sig={MASK}"),
        ("serve --api-key=abc --port 1", f"serve --api-key={MASK} --port 1"),
        ("serve --hf-token abc", f"serve --hf-token {MASK}"),
        # Where case makes no difference, a long s is an s.
        ("serve --pa\u017f\u017fword=abc", f"serve --pa\u017f\u017fword={MASK}"),
        ("serve --tokenizer=org/m", "serve --tokenizer=org/m"),
        ("serve --max-num-batched-tokens 8192", "serve --max-num-batched-tokens 8192"),
        ("serve --access-tokens=abc", f"serve --access-tokens={MASK}"),
        ("a plain sentence about tokens", "a plain sentence about tokens"),
    ],
)
def test_credentials_in_texts_are_masked(text: str, masked: str) -> None:
    assert mask_text(text) == masked


@pytest.mark.parametrize(
    "name",
    ["HF_TOKEN", "AWS_SECRET_ACCESS_KEY", "DB_PASSWORD", "api_key", "APIKEY", "DATABASE_DSN", "GOOGLE_CREDENTIALS", "GH_PAT", "SSH_KEY", "API_TOKENS"],
)  # fmt: skip
def test_a_variable_whose_name_says_secret_is_masked(name: str) -> None:
    variable = {"name": name, "value": "plain"}
    assert mask([variable]) == [{"name": name, "value": MASK}]
    assert variable["value"] == "plain"


@pytest.mark.parametrize(
    "name", ["LOG_LEVEL", "MODEL_ID", "KEYBOARD", "PATH", "HF_HOME", "TOKENIZERS_PARALLELISM", "MAX_TOTAL_TOKENS"]
)
def test_other_variables_stay(name: str) -> None:
    assert mask({"name": name, "value": "plain"}) == {"name": name, "value": "plain"}


@pytest.mark.parametrize(
    "value",
    [
        {"name": "HF_TOKEN", "valueFrom": {"secretKeyRef": {"name": "hub", "key": "token"}}},
        {"name": "x", "value": 5},
        [1, 2.5, None, True],
        "s3://models/llama",
    ],
)
def test_what_names_no_secret_stays(value: Any) -> None:
    assert mask(value) == value


@pytest.mark.parametrize(
    ("arguments", "masked"),
    [
        (["--token", "abc", "--port", "1"], ["--token", MASK, "--port", "1"]),
        (["--api-key=abc", "x"], [f"--api-key={MASK}", "x"]),
        (["--port", "--token"], ["--port", "--token"]),
    ],
)
def test_the_word_after_a_secret_option_is_masked(arguments: list[str], masked: list[str]) -> None:
    assert mask({"args": arguments}) == {"args": masked}


STARTS = ["hf_", "AKIA", "ghp_", "xoxb-", "eyJ", "nvapi-", "sk-", "-----BEGIN RSA PRIVATE KEY-----", "a" * 8, "A1" * 8]
FRAGMENTS = st.sampled_from([*STARTS, "--api-key", "--token", "sig=", "token=", "://", *"@:./x-=?& \n"])


@given(st.lists(FRAGMENTS, max_size=12).map("".join))
def test_looking_first_changes_nothing_of_what_is_masked(text: str) -> None:
    expected = masking._URL_CREDENTIALS.sub(MASK, text)
    expected = masking._SIGNED_QUERY.sub(rf"\1{MASK}", expected)
    expected = masking._ARGUMENT.sub(rf"\g<name>{MASK}", expected)
    expected = masking._VALUE.sub(MASK, expected)

    assert mask_text(text) == expected


@pytest.mark.parametrize("text", ["-" * 100_000 + " token", "-a" * 100_000 + " token", "--token" * 20_000])
def test_a_long_text_without_a_secret_is_masked_in_a_time_that_grows_with_its_length(text: str) -> None:
    """With the square of it, this would take hours."""
    assert mask_text(text) == text

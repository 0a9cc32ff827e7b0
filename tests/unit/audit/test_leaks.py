from __future__ import annotations

import base64
import json
from html import escape
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from massive_lab.audit.leaks import SecretFound, find_secret, refuse_secrets, secrets_of

_KEYS = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=12, max_size=48)
_AROUND = st.binary(max_size=9)


@given(_KEYS, _AROUND, _AROUND)
def test_it_is_found_in_base64_wherever_it_stands_in_the_encoded_bytes(key: str, before: bytes, after: bytes) -> None:
    inside = before + key.encode() + after
    assert find_secret(base64.b64encode(inside).decode(), [key])
    assert find_secret(base64.urlsafe_b64encode(inside).decode(), [key])


@given(_KEYS)
def test_it_is_found_in_every_form_in_which_texts_carry_it(key: str) -> None:
    hexed = key.encode().hex()
    for carried in (
        key, quote(key, safe=""), quote_plus(key), json.dumps({"k": key}), escape(key, quote=False),
        hexed, hexed.upper(), key[::-1],
    ):  # fmt: skip
        assert find_secret(f"... {carried} ...", [key]), carried


@given(_KEYS, st.text(max_size=200))
def test_it_is_not_found_where_it_is_not(key: str, other: str) -> None:
    # Digits and blanks alone hold none of the forms of a key with a letter outside hexadecimal.
    assert find_secret("".join(c for c in other if c in "0123456789 ") + " ", ["z" + key]) is None


def test_only_what_is_long_enough_to_be_a_key_is_one() -> None:
    environ = {"MASSIVE_API_KEY": "k" * 32, "MASSIVE_PROXY_TOKEN": "short", "HOME": "somewhere-long-enough"}
    assert secrets_of(environ, "another-secret") == ("k" * 32, "another-secret")


def test_the_refusal_names_the_place_and_the_form_but_not_the_secret() -> None:
    with pytest.raises(SecretFound, match=r"audit\.ipynb .*base64") as caught:
        refuse_secrets(
            {"audit.html": "clean", "audit.ipynb": base64.b64encode(b"correct-horse").decode()}, ["correct-horse"]
        )
    assert "correct-horse" not in str(caught.value)

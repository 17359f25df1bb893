"""Logged and stored URLs contain neither passwords nor signatures."""

import os
import subprocess
import sys

import pytest

from audionas.runtime.redaction import redact


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("GET https://a.example/x?Signature=secret&Expires=1 now", "GET https://a.example/x?… now"),
        ("proxy http://me:secret@p.example:80/ is gone", "proxy http://…@p.example:80/ is gone"),
        ("'https://me:sec/ret@a.example/y?z=secret'", "'https://me:sec/ret@a.example/y?…'"),
        ("HTTP://A/?secret", "HTTP://A/?…"),
        ("b'https://a/b?secret', b'x'", "b'https://a/b?…', b'x'"),
        ("is it? a@b 1:2", "is it? a@b 1:2"),
    ],
)
def test_redact(text, kept):
    assert redact(text) == kept


def test_debug_logs_of_every_library_are_redacted(tmp_path):
    code = (
        "import logging, sys; from audionas import cli; cli._completion = lambda options: "
        "logging.getLogger('httpx2').info('GET %s', 'https://u:secret@a/b?sig=secret');"
        "sys.exit(cli.main(['completion', 'bash']))"
    )
    environment = os.environ | {"AUDIONAS_DEBUG": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert "GET https://…@a/b?…" in done.stderr and "secret" not in done.stderr

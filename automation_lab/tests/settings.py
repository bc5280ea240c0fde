"""The settings of the tests: independent of the caller's environment and `.env`, on the session's own database (conftest.py)."""

import atexit
import os
import shutil
import tempfile
from pathlib import Path

from automation_lab import environment

FOLDER_VARIABLE = "LAB_TEST_FOLDER"  # set by the first process of the session, inherited by the others


def _remove_unused(folder: Path) -> None:
    if not (folder / "postgres").exists():  # else it goes together with the server
        shutil.rmtree(folder, ignore_errors=True)


if FOLDER_VARIABLE not in os.environ:
    os.environ[FOLDER_VARIABLE] = tempfile.mkdtemp(prefix="lab-test-")
    atexit.register(_remove_unused, Path(os.environ[FOLDER_VARIABLE]))
for name in environment.SETTINGS:
    os.environ.pop(name, None)
os.environ |= {"LAB_ENV_FILE": os.devnull, "DATA_DIR": os.environ[FOLDER_VARIABLE], "EMAIL_URL": "memorymail://"}

from automation_lab.settings import *  # noqa: E402, F403
from automation_lab.settings import DATA_DIR, DATABASES  # noqa: E402

TEST_FOLDER = Path(DATA_DIR)
# A pool would keep connections of one test for the next, and its threads would outlive the session's server.
DATABASES["default"]["OPTIONS"].pop("pool")
INBOX_SOURCE_CACHE_SECONDS = 0  # a rolled-back test leaves nothing behind for the next
API_LOG_ENABLED = False  # its thread writes beside the test's transaction; the tests of the log turn it on
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]

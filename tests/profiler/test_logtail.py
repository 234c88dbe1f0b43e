"""The end of an engine's log, and the line in it that tells why it ended."""

from pathlib import Path

import pytest

from profiler import logtail

OUT_OF_MEMORY = """\
(APIServer pid=10) INFO 01-02 03:04:05 [api_utils.py:286] non-default args: {}
(EngineCore pid=11) ERROR 01-02 03:04:09 [core.py:900] Traceback (most recent call last):
(EngineCore pid=11) ERROR 01-02 03:04:09 [core.py:900]   File "core.py", line 1, in f
(EngineCore pid=11) ERROR 01-02 03:04:09 [core.py:900] ValueError: No memory for the cache blocks.
(APIServer pid=10) Traceback (most recent call last):
(APIServer pid=10)   File "api.py", line 2, in g
(APIServer pid=10) RuntimeError: Engine core initialization failed. See root cause above.
"""


def log(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "engine.log"
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        (OUT_OF_MEMORY, "ValueError: No memory for the cache blocks."),
        ("usage: x\napi_server.py: error: unrecognized arguments: --y\n",
         "api_server.py: error: unrecognized arguments: --y"),
        ("Traceback\ntorch.cuda.OutOfMemoryError: CUDA\n", "torch.cuda.OutOfMemoryError: CUDA"),
        ("RuntimeError: Engine core initialization failed. See above.\n",
         "RuntimeError: Engine core initialization failed. See above."),
        ("all is well\nINFO: no Error: here\n", None),
        ("", None),
    ],
)  # fmt: skip
def test_the_cause_is_the_last_exception_that_is_not_a_summary(
    tmp_path: Path, text: str, cause: str | None
) -> None:
    assert logtail.cause(log(tmp_path, text)) == cause


def test_the_tail_is_the_last_lines_without_process_prefixes(tmp_path: Path) -> None:
    tail = logtail.tail(log(tmp_path, "first\n" * 100 + OUT_OF_MEMORY), lines=5).splitlines()
    assert len(tail) == 5
    assert tail[1] == "ValueError: No memory for the cache blocks."
    assert "pid=" not in "".join(tail)


def test_a_log_that_is_not_there_has_no_tail(tmp_path: Path) -> None:
    assert logtail.tail(tmp_path / "none.log") == ""
    assert logtail.cause(tmp_path / "none.log") is None


def test_bytes_that_are_not_text_do_no_harm(tmp_path: Path) -> None:
    path = tmp_path / "engine.log"
    path.write_bytes(b"\xff\xfe\nKeyError: 'x'\n")
    assert logtail.cause(path) == "KeyError: 'x'"

"""A question set is read whole or refused with the file and line of each mistake."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from profiler.errors import InputError
from profiler.questions import Question, read_questions


def line(**fields) -> str:
    return json.dumps({"prompt": "2 + 2?", "answer": "4", "grader": "number"} | fields)


@pytest.fixture
def file(tmp_path):
    def write(*lines: str) -> Path:
        path = tmp_path / "set.jsonl"
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        return path

    return write


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        ("{not json", "set.jsonl:3: not JSON"),
        ("[1]", "set.jsonl:3: found list, expected a JSON object"),
        (line(grader="nubmer"), "set.jsonl:3: unknown grader 'nubmer'; did you mean 'number'?"),
        (line(awnser="4"), "set.jsonl:3: unknown key 'awnser'; did you mean 'answer'?"),
        (line(answer={"a": 1}), "set.jsonl:3: answer: found"),
        (line(answer="four"), "set.jsonl:3: answer: found 'four', expected a number"),
        (line(messages=[{"role": "user", "content": "x"}]), "either prompt (text) or messages"),
        (line(max_tokens=0), "set.jsonl:3: max_tokens: found 0, expected"),
        (line(grader="exact", tolerance=0.1), "tolerance is for the grader number alone"),
        ('{"prompt": "x", "grader": "exact"}', "set.jsonl:3: missing key 'answer'"),
        (line(id="first"), "set.jsonl:3: id 'first' given twice, first on line 1"),
    ],
)
def test_a_mistake_names_file_line_and_mend(file, broken, message):
    with pytest.raises(InputError) as raised:
        read_questions(file(line(id="first"), "", broken))
    assert message in str(raised.value)
    assert len(str(raised.value).splitlines()) == 1


def test_all_mistakes_are_listed_at_once(file):
    with pytest.raises(InputError) as raised:
        read_questions(file("{", line(), line(grader="x")))
    assert "set.jsonl:1" in str(raised.value) and "set.jsonl:3" in str(raised.value)


def test_the_same_question_twice_is_a_mistake_even_without_ids(file):
    with pytest.raises(InputError, match="given twice, first on line 1"):
        read_questions(file(line(), line()))


@pytest.mark.parametrize("lines", [(), ("", "  ")])
def test_an_empty_file_is_refused_with_an_example(file, lines):
    with pytest.raises(InputError, match="holds no question; expected one JSON object a line"):
        read_questions(file(*lines))


def test_ids_come_from_content_so_lines_may_move(file):
    before = read_questions(file(line(), line(prompt="3 + 1?"))).questions
    after = read_questions(file(line(prompt="new?"), line(prompt="3 + 1?"), line())).questions
    assert {q.id for q in before} < {q.id for q in after}
    assert before[0].dataset == "set"


def test_a_larger_sample_holds_the_smaller_one(file):
    found = read_questions(file(*(line(prompt=f"{i}?") for i in range(50))))
    small, large = found.sample(10, 3), found.sample(20, 3)
    assert len(small) == 10 and set(small) < set(large)
    assert [q for q in found.questions if q in large] == list(large)
    assert found.sample(10, 4) != small
    assert found.sample(None, 0) == found.sample(99, 0) == found.questions


def test_choices_become_part_of_the_prompt():
    question = Question(prompt="Which?", choices=("x", "y"), answer="A", grader="choice")
    assert question.text.startswith("Which?\nA. x\nB. y\n")


def test_a_chat_is_shown_turn_by_turn():
    turns = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]
    question = Question.model_validate({"messages": turns, "answer": "x", "grader": "exact"})
    assert question.text == "system: Be brief.\n\nuser: Hi"


def test_a_line_separator_inside_a_text_ends_no_line(file):
    path = file('{"prompt": "a\u2028b", "answer": 12345678901234567891, "grader": "number"}')
    (question,) = read_questions(path).questions
    assert question.prompt == "a\u2028b"
    assert question.answers == ("12345678901234567891",)


@pytest.mark.parametrize("name", ["questions", "judged"])
def test_the_examples_are_sound(name):
    path = Path(__file__).parents[2] / "examples" / f"{name}.jsonl"
    assert len(read_questions(path).questions) >= 3

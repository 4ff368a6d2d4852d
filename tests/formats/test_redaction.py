"""Text and secrets never get through: not into extra, not into rejects, not into messages."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lamina_traces.errors import UnknownFormat
from lamina_traces.formats.redaction import is_private, masked, masked_json
from tests.formats.reads import read, write

SECRET = "Tell me about my rash"


@pytest.mark.parametrize(
    "name",
    ["prompt", "Prompt", "system_prompt", "messages", "content", "text", "response", "completion", "api_key", "apiKey", "X-Api-Key", "authorization", "Authorization", "access_token", "token", "email", "userEmail", "client_ip", "ip", "User-Agent", "userAgent", "password", "request body", "input_text", "gen_ai.input.messages", "answer", "question"],
)  # fmt: skip
def test_private_names(name: str) -> None:
    assert is_private(name)


@pytest.mark.parametrize(
    "name",
    ["Request tokens", "Response tokens", "prompt_tokens", "promptTokens", "prompt_length", "response_time_ms", "num_prompt", "input_length", "prompt_tok", "output_toks_count", "hash_ids", "request_id", "session_id", "model", "Log Type", "prompt_hash", "status_code", "region", "tokens", "description_length", "completion_token_count", "zip"],
)  # fmt: skip
def test_names_of_measures_are_not_private(name: str) -> None:
    assert not is_private(name)


def test_masks_keep_numbers_instants_and_structure() -> None:
    assert masked("472.5") == "472.5"
    assert masked("2023-11-16 18:17:03.97Z") == "2023-11-16 18:17:03.97Z"
    assert masked("NaN") == "NaN"
    assert masked("Anna 7, b") == "xxxx #, x"
    assert masked("192.168.0.1") == "###.###.#.#"
    assert masked("4711", private=True) == "####"
    assert json.loads(
        masked_json('{"a": 5, "prompt": ["x y", 3], "b": {"c": null, "d": "Ann"}}')
    ) == {"a": 5, "prompt": ["x x", "#"], "b": {"c": None, "d": "xxx"}}
    assert SECRET not in masked_json('{"prompt": "' + SECRET)
    assert masked_json('{"phone": 555') == '{"xxxxx": ###', "of a broken line only the punctuation"


def test_nothing_private_survives_a_reading(tmp_path: Path) -> None:
    rows = [
        {"timestamp": 0, "input_length": 1, "output_length": 1, "prompt": SECRET, "tags": {"messages": [{"content": SECRET}], "n": 5}, "list": [{"text": SECRET, "k": 1}]},
        {"timestamp": "x", "input_length": 1, "output_length": 1, "prompt": SECRET},
        {"timestamp": 1, "input_length": 1, "output_length": 1, "blob": SECRET * 20, "who": "ann@example.com", "from": "10.1.2.3", "h": "Bearer abcdef"},
    ]  # fmt: skip
    text = "\n".join(map(json.dumps, rows)) + "\n" + '{"prompt": "' + SECRET + "\n"
    got = read(write(tmp_path / "m.jsonl", text))
    assert got.frame.height == 2
    everything = repr(got.frame.rows()) + repr(got.rejects.rows()) + repr(got.summary)
    for private in (SECRET, "rash", "ann@", "10.1.2.3", "abcdef"):
        assert private not in everything
    assert json.loads(got.column("extra")[0]) == {"tags": {"n": 5}, "list": [{"k": 1}]}
    assert set(got.summary.dropped_fields) == {
        "prompt",
        "tags.messages",
        "list.text",
        "blob",
        "who",
        "from",
        "h",
    }
    assert "text-dropped" in [n.code for n in got.summary.notices]
    kept = read(tmp_path / "m.jsonl", keep_text=True)
    assert SECRET in kept.column("extra")[0]
    assert kept.summary.dropped_fields == ()


def test_nothing_private_survives_csv(tmp_path: Path) -> None:
    path = write(
        tmp_path / "b.csv",
        "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type,prompt,kind\n"
        f"5,GPT-4,1,2,3,API log,{SECRET},ann@example.com\n"
        f"5,GPT-4,x,2,3,API log,{SECRET},{SECRET}\n"
        f"5,GPT-4,1,2,3,API log,{SECRET},fine\n",
    )
    got = read(path)
    everything = repr(got.frame.rows()) + repr(got.rejects.rows()) + repr(got.summary)
    assert "rash" not in everything
    assert "ann@" not in everything
    assert got.summary.dropped_fields == ("prompt", "kind")
    assert got.column("extra")[1] == '{"kind":"fine"}'


def test_json_inside_strings_is_looked_through(tmp_path: Path) -> None:
    inner = json.dumps({"prompt": SECRET, "n": 1})
    path = write(
        tmp_path / "m.jsonl",
        json.dumps({"timestamp": 0, "input_length": 1, "output_length": 1, "meta": inner}) + "\n",
    )
    got = read(path)
    assert json.loads(json.loads(got.column("extra")[0])["meta"]) == {"n": 1}
    quoted = inner.replace('"', '""')
    table = write(
        tmp_path / "m.csv", f't,i,o,meta\n1,2,3,"{quoted}"\n2,2,3,plain\n3,2,3,"[1, 2]"\n'
    )
    got = read(table, mapping="arrival=t,input=i,output=o", time_unit="s")
    assert [json.loads(e)["meta"] for e in got.column("extra")] == ['{"n":1}', None, "[1, 2]"]
    assert set(got.summary.dropped_fields) == {"meta", "meta.prompt"}


def test_unknown_formats_show_no_text(tmp_path: Path) -> None:
    path = write(
        tmp_path / "u.jsonl", json.dumps({"when": 5, "prompt": SECRET, "user": "Ann"}) + "\n"
    )
    with pytest.raises(UnknownFormat) as caught:
        read(path)
    assert "rash" not in str(caught.value.hint)
    assert "Ann" not in str(caught.value.hint)
    assert "columns: when, prompt, user" in str(caught.value.hint)


@pytest.mark.parametrize("name", ["note", "remote", "referer", "endpoint", "title", "x_tag", "err", "customer", "filename", "url"])  # fmt: skip
def test_words_of_people_stay_out_under_any_name(tmp_path: Path, name: str) -> None:
    """A name that the list of private names does not know lets numbers and ids through, and no words."""
    for value in ("PLANTED-SECRET", "http://PLANTED-SECRET/x", "two words"):
        rows = [{"timestamp": i, "input_length": 1, "output_length": 1, name: v} for i, v in enumerate([value, "17 ms", "2024-05-10T00:00:00Z", "0b2532b309f8c84a", 5])]  # fmt: skip
        got = read(write(tmp_path / "m.jsonl", "\n".join(json.dumps(r) for r in rows)))
        kept = [None if e is None else json.loads(e)[name] for e in got.column("extra")]
        assert kept == [None, "17 ms", "2024-05-10T00:00:00Z", "0b2532b309f8c84a", 5]
        assert got.summary.dropped_fields == (name,)
        csv = f"Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type,{name}\n1,m,1,1,2,API log,{value}\n"
        table = read(write(tmp_path / "b.csv", csv))
        assert "PLANTED" not in repr(table.frame.to_dicts()) + repr(table.summary)
        assert table.column("extra") == [None]
        assert value in read(tmp_path / "b.csv", keep_text=True).column("extra")[0].replace(
            "\\/", "/"
        )


def test_what_is_no_header_is_shown_by_its_shape(tmp_path: Path) -> None:
    path = write(
        tmp_path / "x.log",
        "2026-01-01 Authorization: Bearer sk-PLANTED12345, hello PLANTED\nroot:x:0:0\n",
    )
    with pytest.raises(UnknownFormat) as e:
        read(path)
    assert "PLANTED" not in str(e.value) + str(e.value.hint)
    row = {
        "timestamp": 1,
        "input_length": 1,
        "output_length": 1,
        "ann@example.org": {"prompt": "x"},
    }
    got = read(write(tmp_path / "m.jsonl", json.dumps(row)))
    assert "example" not in repr(got.summary)

"""The catalogue: every number has a source, names are found, and prices are input."""

from __future__ import annotations

from pathlib import Path

import pytest

from lamina_traces.errors import DataError, ModelError, UnknownName
from lamina_traces.hardware import all_devices, all_models, device, load_prices, model
from lamina_traces.hardware.catalogue import quantities


def test_every_number_has_a_source_and_a_basis() -> None:
    rows = [(d.name, d.quantities()) for d in all_devices().values()]
    rows += [(m.name, m.quantities()) for m in all_models().values()]
    for key, numbers in rows:
        assert numbers
        for name, q in numbers.items():
            assert q.source, (key, name)
            assert q.value > 0, (key, name)
            assert q.basis in ("datasheet", "paper", "measured", "fitted", "derived", "assumed")
    # what was not read anywhere says so
    assert device("a10").fp16_tflops.basis == "assumed"
    assert device("h200-sxm").idle_w.basis == "assumed"
    assert device("h100-sxm").idle_w.basis == "measured"


def test_flop_rates_are_dense() -> None:
    # the vendors' 2:4-sparse figures are twice these
    assert device("h100-sxm").flops_per_s("bf16") == 989e12
    assert device("l40s").flops_per_s("fp8") == 733e12
    for d in all_devices().values():
        if d.fp8_tflops is not None:
            assert 1.9 < d.fp8_tflops.value / d.fp16_tflops.value < 2.1, d.name


def test_names_are_found_in_any_spelling() -> None:
    assert device("NVIDIA H100 80GB HBM3").name == "h100-sxm"
    assert device("nvidia h100 80gb hbm3").name == "h100-sxm"
    assert device("H100").name == "h100-sxm"
    assert device("A100_80_SXM").name == "a100-80-sxm"
    assert model("meta-llama/Llama-3.1-8B-Instruct").name == "llama-3.1-8b"
    assert model("LLAMA-3.1-70B").name == "llama-3.1-70b"


def test_no_name_means_two_things() -> None:
    for rows in (all_devices(), all_models()):
        spellings = [n.casefold() for key, row in rows.items() for n in {key, *row.names}]
        assert len(spellings) == len(set(spellings))


def test_an_unknown_name_offers_close_ones_and_the_listing() -> None:
    with pytest.raises(UnknownName, match="unknown GPU 'h10-sxm'") as e:
        device("h10-sxm")
    assert "h100-sxm" in str(e.value.hint)
    assert "lamina-traces catalog gpus" in str(e.value.hint)
    with pytest.raises(UnknownName) as e:
        model("llama-3.1-9b")
    assert "llama-3.1-8b" in str(e.value.hint)
    assert "catalog models" in str(e.value.hint)


def test_parameters_follow_from_the_shapes() -> None:
    # billions of parameters as the model cards round them
    for name, billions in (
        ("llama-2-7b", 6.74),
        ("llama-2-70b", 68.98),
        ("llama-3.1-8b", 8.03),
        ("llama-3.1-70b", 70.55),
        ("mixtral-8x7b", 46.70),
        ("qwen3-32b", 32.76),
    ):
        assert model(name).params / 1e9 == pytest.approx(billions, abs=0.006)
    assert model("mixtral-8x7b").active_params / 1e9 == pytest.approx(12.75, abs=0.01)
    assert model("llama-2-70b").kv_bytes_per_token("bf16") == 327_680
    assert model("llama-3.1-8b").kv_bytes_per_token("bf16") == 131_072
    # eight key/value heads on sixteen devices are held twice
    assert model("llama-3.1-8b").kv_bytes_per_token("bf16", tp=16) == 2 * 131_072


def test_a_rate_that_the_device_lacks_is_refused() -> None:
    with pytest.raises(ModelError, match="a100-80-sxm has no fp8 rate"):
        device("a100").flops_per_s("fp8")


def test_a_row_without_source_is_refused() -> None:
    with pytest.raises(DataError, match="no source"):
        quantities({"tdp_w": 3, "basis": "datasheet"}, {"tdp_w": "W"}, "here")
    with pytest.raises(DataError, match="not a positive number"):
        quantities({"tdp_w": 0, "basis": "datasheet", "source": "x"}, {"tdp_w": "W"}, "here")


def test_prices_are_an_example_that_a_file_replaces(tmp_path: Path) -> None:
    assert load_prices().date == "2026-11-23"
    assert all(q.basis == "assumed" for q in load_prices().usd_per_h.values())
    assert load_prices().of("mi300x") is None
    own = tmp_path / "own.toml"
    own.write_text("date = '2027-01-01'\n[usd_per_h]\nH100 = 3.5\n")
    price = load_prices(own).of("h100-sxm")
    assert price is not None
    assert (price.value, price.unit) == (3.5, "USD/h")
    for text, what in (
        ("x", "not TOML"),
        ("a = 1", "usd_per_h"),
        ("[usd_per_h]\nh100 = -1", "positive"),
    ):
        own.write_text(text)
        with pytest.raises(DataError, match=what):
            load_prices(own)
    own.write_text("[usd_per_h]\nh1000 = 1")
    with pytest.raises(UnknownName):
        load_prices(own)
    with pytest.raises(DataError, match="cannot be read"):
        load_prices(tmp_path / "none.toml")

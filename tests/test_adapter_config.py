"""Which configurations of PEFT stand for what the runtime computes."""

from __future__ import annotations

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.adapter_config import (
    HEEDED,
    TELLING,
    UNSUPPORTED,
    AdapterError,
    check_modules,
    parse_config,
    scale_of,
)

# As PEFT 0.18 writes one.
PLAIN = json.loads("""{
 "alora_invocation_tokens": null, "alpha_pattern": {}, "arrow_config": null, "auto_mapping": null,
 "base_model_name_or_path": "a/b", "bias": "none", "corda_config": null,
 "ensure_weight_tying": false, "eva_config": null, "exclude_modules": null,
 "fan_in_fan_out": false, "inference_mode": true, "init_lora_weights": true,
 "layer_replication": null, "layers_pattern": null, "layers_to_transform": null,
 "loftq_config": {}, "lora_alpha": 32, "lora_bias": false, "lora_dropout": 0.05,
 "megatron_config": null, "megatron_core": "megatron.core", "modules_to_save": null,
 "peft_type": "LORA", "peft_version": "0.18.0", "qalora_group_size": 16, "r": 16,
 "rank_pattern": {}, "revision": null, "target_modules": ["o_proj", "v_proj"],
 "target_parameters": null, "task_type": "CAUSAL_LM", "trainable_token_indices": null,
 "use_dora": false, "use_qalora": false, "use_rslora": false
}""")
VALUES = {"layers.3.self_attn.v_proj", "layers.0.self_attn.o_proj"}
MODULES = sorted(f"model.{name}" for name in VALUES)


def check(**fields) -> float:
    """Read a plain configuration with other fields; the scale."""
    found = parse_config("x.json", json.dumps({**PLAIN, **fields}).encode())
    check_modules("x.json", found, MODULES)
    return scale_of("x.json", found, 16)


def test_a_plain_one_is_taken_and_so_is_one_with_the_least():
    assert check() == 2
    assert check(use_rslora=True) == 8
    assert check(use_rslora=None) == 2
    least = parse_config("x.json", b'{"peft_type": "LORA", "r": 4, "lora_alpha": 1}')
    check_modules("x.json", least, MODULES)
    assert scale_of("x.json", least, 4) == 0.25


@pytest.mark.parametrize(
    "fields",
    [
        {"cidermill_adapted": {"epochs": 2}},
        {"lora_dropout": 0.5, "task_type": None, "auto_mapping": {"a": "b"}},
        {"init_lora_weights": "eva", "eva_config": {"rho": 2.0}},
        {"init_lora_weights": False},
        {"loftq_config": {"loftq_bits": 4}, "qalora_group_size": 8},
        {"modules_to_save": [], "some_new_field": None, "another": False},
        {"target_modules": "all-linear"},
        {"target_modules": None},
        {"target_modules": ["self_attn.v_proj", "layers.0.self_attn.o_proj"]},
        {"exclude_modules": ["proj", "lf_attn.v_proj", "q_proj"]},
        {"layers_to_transform": [0, 3], "layers_pattern": "layers"},
        {"layers_to_transform": []},
    ],
)
def test_what_changes_no_result_is_passed_over(fields):
    assert check(**fields) == 2


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"peft_type": "IA3"}, "not the configuration of a LoRA"),
        ({"use_dora": True}, "use_dora is True; which is not supported"),
        ({"use_dora": "false"}, "use_dora is 'false'"),
        ({"use_qalora": True}, "use_qalora is True"),
        ({"lora_bias": True}, "lora_bias is True"),
        ({"fan_in_fan_out": True}, "fan_in_fan_out is True"),
        ({"alora_invocation_tokens": [7, 8]}, r"alora_invocation_tokens is \[7, 8\]"),
        ({"layer_replication": [[0, 2], [1, 3]]}, "layer_replication is"),
        ({"trainable_token_indices": [1]}, r"trainable_token_indices is \[1\]"),
        ({"target_parameters": ["up_proj"]}, "target_parameters is"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save is"),
        ({"rank_pattern": {"q_proj": 2}}, "rank_pattern is"),
        ({"alpha_pattern": {"q_proj": 2}}, "alpha_pattern is"),
        ({"megatron_config": {"a": 1}}, "megatron_config is"),
        ({"kasa_config": {"beta": 1}}, "kasa_config is"),
        ({"bias": "all"}, "bias is 'all'; the models have none"),
        ({"use_rslora": "true"}, "use_rslora is 'true'; it must be true or false"),
        ({"use_rslora": 1}, "use_rslora is 1; it must be true or false"),
        ({"init_lora_weights": "pissa"}, "init_lora_weights is 'pissa'; which may change the weig"),
        ({"init_lora_weights": ["eva"]}, "init_lora_weights is"),
        ({"vllm_lora_scaling_factor": 0}, "'vllm_lora_scaling_factor' is 0; a field that is not k"),
        ({"a\x1b": {"b": 1}}, r"'a\\x1b' is \{'b': 1\}; a field that is not known; remove it"),
        ({"r": 5}, "says that r is 5, and the factors are of 16"),
        ({"r": 16.0}, r"r is 16\.0"),
        ({"r": True}, "r is True"),
        ({"lora_alpha": "8"}, "lora_alpha is '8'"),
        ({"lora_alpha": True}, "lora_alpha is True"),
        ({"lora_alpha": float("inf")}, "lora_alpha is inf"),
        ({"lora_alpha": 10**400}, r"lora_alpha is 10+\.\.\.; it must be a number from -1e\+06"),
        ({"target_modules": ["v_proj"]}, r"leaves out model\.layers\.0\.self_attn\.o_proj"),
        ({"target_modules": ["proj"]}, "target_modules leaves out"),
        ({"target_modules": []}, "target_modules leaves out"),
        ({"target_modules": ".*_proj"}, "target_modules is .*; it must be a list of names, as pat"),
        ({"exclude_modules": ["o_proj"]}, r"exclude_modules has model\.layers\.0\.self_attn\.o_pr"),
        ({"exclude_modules": "all-linear"}, "exclude_modules is 'all-linear'; it must be a list"),
        ({"layers_to_transform": 3}, r"layers_to_transform leaves out model\.layers\.0\."),
        ({"layers_to_transform": 0}, r"layers_to_transform leaves out model\.layers\.3\."),
        ({"layers_to_transform": ["0"]}, r"layers_to_transform is \['0'\]; it must be numbers"),
        ({"layers_to_transform": [0, 3], "layers_pattern": "h"}, "layers_pattern is 'h'"),
    ],
)
def test_what_the_runtime_does_not_compute_is_refused(fields, message):
    with pytest.raises(AdapterError, match=message):
        check(**fields)


KNOWN = HEEDED | TELLING | UNSUPPORTED
WRONG = st.recursive(
    st.just(True) | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, min_size=1, max_size=2)
        | st.dictionaries(st.text(max_size=3), inner, min_size=1, max_size=2)
    ),
    max_leaves=3,
)


@given(field=st.sampled_from(sorted(UNSUPPORTED)) | st.text(max_size=8), value=WRONG)
def test_no_field_that_is_on_is_passed_over(field, value):
    if field in UNSUPPORTED or (field not in KNOWN and not field.startswith("cidermill_")):
        with pytest.raises(AdapterError, match=r"is .*; (which is n|a field that is n)"):
            check(**{field: value})


@given(st.dictionaries(st.sampled_from(sorted(HEEDED)), WRONG | st.none(), max_size=3))
def test_any_values_are_a_scale_or_an_error(fields):
    with contextlib.suppress(AdapterError):
        assert isinstance(check(**fields), float)

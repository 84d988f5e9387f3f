"""FP16 keeps what a network means: its ends, its norms, its input in full digits."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx
import pytest
from onnx import ModelProto, TensorProto, helper

from dicom_node.infer.parity import compare, objection
from dicom_node.infer.plans.half import to_half
from tests.engines.bundled import BUNDLED, Bundled
from tests.unit.infer.plans.networks import FLOAT, answers, convolution, network, node


def converted(model: ModelProto) -> ModelProto:
    half = to_half(model)
    onnx.checker.check_model(half, full_check=True)
    return half


def types(model: ModelProto) -> dict[str, str]:
    """Return in what each named node computes: the type of its first output."""
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True).graph
    known = {v.name: v.type.tensor_type.elem_type for v in (*inferred.value_info, *inferred.output)}
    words = {TensorProto.FLOAT: "fp32", TensorProto.FLOAT16: "fp16"}
    return {
        one.name: words.get(known[one.output[0]], "other")
        for one in model.graph.node
        if one.op_type != "Cast"
    }


def casts(model: ModelProto) -> int:
    return Counter(one.op_type for one in model.graph.node)["Cast"]


def test_layers_go_to_fp16_and_the_ends_stay() -> None:
    first, w1 = convolution("c1", "x", "a", (1, 4))
    second, w2 = convolution("c2", "b", "y", (4, 2))
    model = network([first, node("Relu", ["a"], ["b"], name="relu"), second], w1 | w2)
    half = converted(model)
    assert types(half) == {"c1": "fp16", "relu": "fp16", "c2": "fp16"}
    assert casts(half) == 2
    ends = (*half.graph.input, *half.graph.output)
    assert [(end.name, end.type.tensor_type.elem_type) for end in ends] == [
        ("x", FLOAT),
        ("y", FLOAT),
    ]
    assert {t.data_type for t in half.graph.initializer} == {TensorProto.FLOAT16}
    x = np.random.default_rng(1).standard_normal((3, 1, 8, 8)).astype(np.float32)
    expected = answers(model, x=x)["y"]
    assert answers(half, x=x)["y"] == pytest.approx(expected, abs=0.01)
    assert not np.array_equal(answers(half, x=x)["y"], expected)


def test_the_model_that_was_given_stays_as_it_is() -> None:
    first, weights = convolution("c1", "x", "y", (1, 4))
    model = network([first], weights)
    before = model.SerializeToString(deterministic=True)
    to_half(model)
    assert model.SerializeToString(deterministic=True) == before


def test_a_norm_that_was_written_out_stays_in_fp32_as_a_whole() -> None:
    first, weights = convolution("c1", "x", "a", (1, 4))
    constants = weights | {"eps": np.float32(1e-9)}
    nodes = [
        first,
        node("ReduceMean", ["a"], ["m"], name="mean", axes=[2, 3]),
        node("Sub", ["a", "m"], ["d"], name="centre"),
        node("Mul", ["d", "d"], ["q"], name="square"),
        node("ReduceMean", ["q"], ["v"], name="variance", axes=[2, 3]),
        node("Add", ["v", "eps"], ["e"], name="add_eps"),
        node("Sqrt", ["e"], ["s"], name="root"),
        node("Div", ["d", "s"], ["z"], name="quotient"),
        node("LeakyRelu", ["z"], ["b"], name="relu"),
        node("MaxPool", ["b"], ["y"], name="pool", kernel_shape=[2, 2]),
    ]
    half = converted(network(nodes, constants))
    norm = ("mean", "centre", "square", "variance", "add_eps", "root", "quotient")
    assert types(half) == {
        **{"c1": "fp16", "relu": "fp16", "pool": "fp16"},
        **dict.fromkeys(norm, "fp32"),
    }
    # Squares of 400 are beyond FP16, their root is not.
    x = np.random.default_rng(1).standard_normal((1, 1, 8, 8)).astype(np.float32) * 400
    expected = answers(network(nodes, constants), x=x)["y"]
    assert answers(half, x=x)["y"] == pytest.approx(expected, abs=0.01)


def test_numbers_of_the_input_are_prepared_in_full_digits() -> None:
    first, weights = convolution("c1", "s", "y", (1, 4))
    nodes = [
        node("Clip", ["x", "low", "high"], ["c"], name="clip"),
        node("Sub", ["c", "centre"], ["d"], name="subtract"),
        node("Mul", ["d", "scale"], ["s"], name="scale"),
        first,
    ]
    constants = {
        "low": np.float32(-1024),
        "high": np.float32(3071),
        "centre": np.float32(2049),
        "scale": np.float32(0.5),
    }
    half = converted(network(nodes, weights | constants))
    assert types(half) == {
        **{"clip": "fp32", "subtract": "fp32", "scale": "fp32"},
        **{"c1": "fp16"},
    }
    # 2049 and 2050 are one number in FP16.
    x = np.full((1, 1, 8, 8), 2049, np.float32)
    assert not answers(half, x=x)["y"].any()


def test_what_makes_the_answer_stays_in_fp32() -> None:
    first, weights = convolution("c1", "x", "a", (1, 4))
    sigmoid = node("Sigmoid", ["a"], ["s"], name="sigmoid")
    scale = node("Mul", ["s", "k"], ["y"], name="scale")
    half = converted(network([first, sigmoid, scale], {"k": np.float32(3), **weights}))
    assert types(half) == {"c1": "fp16", "sigmoid": "fp32", "scale": "fp32"}


def test_an_activation_in_the_middle_goes_to_fp16() -> None:
    first, w1 = convolution("c1", "x", "a", (1, 4))
    second, w2 = convolution("c2", "m", "y", (4, 4))
    nodes = [
        first,
        node("Sigmoid", ["a"], ["s"], name="sigmoid"),
        node("Mul", ["a", "s"], ["m"], name="swish"),
        second,
    ]
    half = converted(network(nodes, w1 | w2))
    assert set(types(half).values()) == {"fp16"}


@pytest.mark.parametrize(("constant", "kind"), [(-1e9, "fp32"), (1e-9, "fp32"), (-1e4, "fp16")])
def test_a_constant_that_fp16_does_not_hold_keeps_its_node_in_fp32(
    constant: float, kind: str
) -> None:
    first, w1 = convolution("c1", "x", "a", (1, 4))
    second, w2 = convolution("c2", "m", "y", (4, 4))
    nodes = [first, node("Max", ["a", "k"], ["m"], name="max"), second]
    half = converted(network(nodes, {"k": np.float32(constant), **w1, **w2}))
    assert types(half) == {"c1": "fp16", "max": kind, "c2": "fp16"}


def test_labels_are_found_in_what_is_there() -> None:
    first, weights = convolution("c1", "x", "a", (1, 4))
    nodes = [
        first,
        node("ArgMax", ["a"], ["l"], name="argmax", axis=1),
        node("Cast", ["l"], ["y"], name="cast", to=TensorProto.UINT8),
    ]
    half = converted(network(nodes, weights, outputs={"y": TensorProto.UINT8}))
    assert casts(half) == 2  # one for the input; the other was there
    x = np.random.default_rng(1).standard_normal((1, 1, 8, 8)).astype(np.float32)
    expected = answers(network(nodes, weights, outputs={"y": TensorProto.UINT8}), x=x)["y"]
    assert np.mean(answers(half, x=x)["y"] != expected) < 0.05
    assert answers(half, x=x)["y"].dtype == np.uint8


def test_one_tensor_can_be_wanted_in_both_types() -> None:
    first, w1 = convolution("c1", "x", "a", (1, 4))
    second, w2 = convolution("c2", "a", "b", (4, 4))
    nodes = [
        first,
        second,
        node("Softmax", ["a"], ["p"], name="softmax", axis=1),
        node("Relu", ["b"], ["y"], name="relu"),
    ]
    half = converted(network(nodes, w1 | w2, outputs={"y": FLOAT, "p": FLOAT, "a": FLOAT}))
    assert types(half) == {"c1": "fp16", "c2": "fp16", "softmax": "fp32", "relu": "fp16"}
    assert casts(half) == 3  # x down; a up once for two; y up


def test_scales_of_a_resize_stay_numbers_in_fp32() -> None:
    first, weights = convolution("c1", "x", "a", (1, 4))
    second, w2 = convolution("c2", "r", "y", (4, 4))
    scales = np.array([1, 1, 2, 2], np.float32)
    nodes = [first, node("Resize", ["a", "", "scales"], ["r"], name="resize"), second]
    half = converted(network(nodes, {"scales": scales, **weights, **w2}))
    assert types(half)["resize"] == "fp16"
    kinds = {t.name: t.data_type for t in half.graph.initializer}
    assert kinds["scales"] == FLOAT


def test_constant_nodes_are_constants_too() -> None:
    first, w1 = convolution("c1", "x", "a", (1, 4))
    second, w2 = convolution("c2", "b", "y", (4, 4))
    tensor = helper.make_tensor("t", FLOAT, [1], [0.5])
    nodes = [
        node("Constant", [], ["k"], value=tensor),
        node("Constant", [], ["slope"], value_float=0.5),
        first,
        node("PRelu", ["a", "slope"], ["p"], name="prelu"),
        node("Add", ["p", "k"], ["b"], name="add"),
        second,
    ]
    half = converted(network(nodes, w1 | w2))
    assert set(types(half).values()) == {"fp16"}
    assert casts(half) == 2


def test_a_branch_reads_tensors_of_outside_as_they_were() -> None:
    first, weights = convolution("c1", "x", "a", (1, 4))
    value = helper.make_tensor_value_info
    branches = {
        f"{name}_branch": helper.make_graph(
            [node(operator, ["a"], [name])], name, [], [value(name, FLOAT, None)]
        )
        for name, operator in (("then", "Relu"), ("else", "Neg"))
    }
    nodes = [first, node("If", ["flag"], ["y"], name="if", **branches)]
    model = network(nodes, {"flag": np.array([True]).reshape(()), **weights})
    half = converted(model)
    assert types(half)["c1"] == "fp16"
    x = np.random.default_rng(1).standard_normal((1, 1, 8, 8)).astype(np.float32)
    assert answers(half, x=x)["y"] == pytest.approx(answers(model, x=x)["y"], abs=0.01)


def test_an_operator_that_onnx_does_not_know_stays_in_fp32() -> None:
    first, w1 = convolution("c1", "x", "a", (1, 4))
    own = node("Own", ["a"], ["b"], name="own", domain="own")
    second, w2 = convolution("c2", "b", "y", (4, 4))
    model = network([first, own, second], w1 | w2)
    model.graph.value_info.append(helper.make_tensor_value_info("b", FLOAT, ["n", 4, 8, 8]))
    half = to_half(model)
    (kept,) = [one for one in half.graph.node if one.op_type == "Own"]
    assert list(kept.input) == ["a"]
    assert list(kept.output) == ["b"]


def test_what_comes_after_a_tensor_of_unknown_type_stays_as_it_was() -> None:
    first, w1 = convolution("c1", "x", "a", (1, 4))
    own = node("Own", ["a"], ["b"], name="own", domain="own")
    second, w2 = convolution("c2", "b", "c", (4, 4))
    nodes = [first, own, second, node("Relu", ["c"], ["y"], name="relu")]
    half = to_half(network(nodes, w1 | w2))
    kept = {one.name: (list(one.input), list(one.output)) for one in half.graph.node}
    assert kept["own"] == (["a"], ["b"])
    assert kept["c2"] == (["b", "c2_w"], ["c"])
    assert kept["relu"] == (["c"], ["y"])
    assert kept["c1"] == (["x__half", "c1_w__half"], ["a__half"])


@pytest.mark.parametrize("network", BUNDLED, ids=str)
def test_bundled_networks_in_fp16_stay_within_their_tolerance(network: Bundled) -> None:
    model = onnx.load(network.file)
    half = converted(model)
    assert casts(half) - casts(model) <= 4
    vector = network.vector()
    answer = answers(half, **vector.inputs)[network.output]
    difference = compare(vector.expected, answer, network.meaning)
    assert objection(difference, network.limits) == ""

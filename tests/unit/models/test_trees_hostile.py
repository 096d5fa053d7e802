"""Files made to harm: ONNX Runtime is native code, and what would end the process or fill it never reaches it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from pointsman.models import trees
from tests.unit.models.test_trees import FEATURES, attribute, changed, dumped, fitted, rows

Change = Callable[[onnx.NodeProto, onnx.GraphProto], object]


def path(length: int, *, right: str = "leaf", roots: int = 1) -> bytes:
    """One tree whose left children are a path; its right children are all one leaf, or the left ones again."""
    left, is_leaf = [*range(1, length), 0], [*[0] * (length - 1), 1]
    flat = trees._Flat(
        roots=[0] * roots,
        features=[0] * length,
        splits=[0.5] * length,
        missing_left=[0] * length,
        left=left,
        left_is_leaf=is_leaf,
        right=left if right == "left" else [0] * length,
        right_is_leaf=is_leaf if right == "left" else [1] * length,
        leaves=[2.0],
    )
    data: bytes = trees._model(flat, FEATURES).SerializeToString()
    return data


def refused(data: bytes, why: str = "do not hold together") -> None:
    with pytest.raises(ValueError, match=why):
        trees.load(data)


def test_a_path_that_would_overflow_the_stack_is_refused_and_one_within_the_limit_is_not() -> None:
    scores = trees.load(path(1_000)).predict_proba(rows(0))
    assert scores[:, 1] == pytest.approx(1 / (1 + np.exp(-2.0)))
    for length in (1_001, 20_000, 300_000):
        refused(path(length))


def test_a_node_with_two_parents_is_refused_for_the_walk_would_double_at_each_level() -> None:
    for length in (2, 40):
        refused(path(length, right="left"))


def test_a_tree_that_is_named_as_often_as_one_likes_is_refused() -> None:
    assert trees.load(path(1))
    refused(path(1, roots=2))
    refused(path(1, roots=1_000_000))


def test_a_node_that_no_tree_holds_is_refused() -> None:
    def cut_off(node: onnx.NodeProto, _graph: onnx.GraphProto) -> None:
        del attribute(node, "tree_roots").ints[1]

    refused(changed(cut_off))


@pytest.mark.parametrize(
    ("name", "value"),
    [("n_targets", 10**9), ("n_targets", 0), ("aggregate_function", 0), ("post_transform", 1)],
)
def test_another_sum_than_the_one_that_is_written_is_refused(name: str, value: int) -> None:
    """A thousand million targets would be as many numbers for each row."""

    def change(node: onnx.NodeProto, _graph: onnx.GraphProto) -> None:
        attribute(node, name).i = value

    refused(changed(change))


@pytest.mark.parametrize(
    "name", [each.name for each in onnx.load_model_from_string(path(1)).graph.node[0].attribute]
)
@pytest.mark.parametrize("how", ["missing", "twice", "under another name", "of another type"])
def test_an_attribute_that_is_not_as_it_was_written_is_refused(name: str, how: str) -> None:
    def change(node: onnx.NodeProto, _graph: onnx.GraphProto) -> None:
        found = attribute(node, name)
        if how == "missing":
            node.attribute.remove(found)
        elif how == "twice":
            node.attribute.append(found)
        elif how == "under another name":
            found.name = "nodes_hitrates"
        else:
            found.CopyFrom(helper.make_attribute(name, "text"))

    refused(changed(change), "other attributes|do not hold together|another type")


def _modes(node: onnx.NodeProto, _graph: onnx.GraphProto) -> None:
    tensor = attribute(node, "nodes_modes").t
    modes = numpy_helper.to_array(tensor).copy()
    modes[0] = 6  # of a set, which stands in an array that is not there
    tensor.CopyFrom(numpy_helper.from_array(modes))


def _singles(node: onnx.NodeProto, _graph: onnx.GraphProto) -> None:
    tensor = attribute(node, "leaf_weights").t
    tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float32)))


def _sizes(node: onnx.NodeProto, _graph: onnx.GraphProto) -> None:
    attribute(node, "leaf_weights").t.dims[0] = 10**12


def _square(node: onnx.NodeProto, _graph: onnx.GraphProto) -> None:
    attribute(node, "leaf_weights").t.dims.insert(0, 1)


def _flags(node: onnx.NodeProto, _graph: onnx.GraphProto) -> None:
    attribute(node, "nodes_trueleafs").ints[0] += 2


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (_modes, "do not hold together"),
        (_singles, "another type"),
        (_sizes, "cannot be read"),
        (_square, "another type or shape"),
        (_flags, "do not hold together"),
    ],
)
def test_numbers_of_another_kind_are_refused(change: Change, why: str) -> None:
    refused(changed(change), why)


def test_a_function_in_the_operators_name_is_refused() -> None:
    model = onnx.load_model_from_string(dumped(fitted()))
    body = [helper.make_node("Identity", ["rows"], ["odds"])]
    opsets = [helper.make_opsetid("", 18)]
    model.functions.append(
        helper.make_function("ai.onnx.ml", "TreeEnsemble", ["rows"], ["odds"], body, opsets)
    )
    refused(model.SerializeToString(), "expected one TreeEnsemble")


def test_nothing_of_the_file_but_its_numbers_reaches_the_runtime(monkeypatch: pytest.MonkeyPatch) -> None:
    import onnxruntime

    given: list[Any] = []
    monkeypatch.setattr(onnxruntime, "InferenceSession", lambda data, *_args, **_options: given.append(data))
    plain = dumped(fitted())
    model = onnx.load_model_from_string(plain)
    model.metadata_props.add(key="ort_config", value="{}")
    model.graph.value_info.append(helper.make_tensor_value_info("more", TensorProto.DOUBLE, [2**40]))
    model.graph.node[0].doc_string = "x"
    model.opset_import.add(domain="elsewhere", version=1)
    for data in (plain, model.SerializeToString()):
        trees.load(data)
    assert [onnx.load_model_from_string(each) for each in given] == [onnx.load_model_from_string(plain)] * 2

"""Trees as ONNX: the same scores to the last digits, and nothing else in the file."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper
from sklearn.ensemble import GradientBoostingClassifier, HistGradientBoostingClassifier

from pointsman.models import trees

Floats = npt.NDArray[np.float64]
FEATURES = 4


def rows(seed: int, count: int = 400) -> Floats:
    """Numbers that meet: whole ones, shares, and many zeros, as features are."""
    random = np.random.default_rng(seed)
    found = np.column_stack(
        [random.integers(0, 6, count), random.random(count), random.normal(size=count), np.zeros(count)]
    )
    found[random.random(found.shape) < 0.3] = 0.0
    return found


def fitted(seed: int = 0, *, trees: int = 12, leaves: int = 9, truth: Floats | None = None) -> Any:
    x = rows(seed)
    y = x[:, 0] * x[:, 1] > x[:, 2] if truth is None else truth
    estimator = HistGradientBoostingClassifier(max_iter=trees, max_leaf_nodes=leaves, min_samples_leaf=5)
    return estimator.fit(x, y)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 20), st.integers(2, 31))
def test_scores_are_the_estimators(seed: int, count: int, leaves: int) -> None:
    estimator = fitted(seed, trees=count, leaves=leaves)
    loaded = trees.load(dumped(estimator))
    assert loaded.n_features_in_ == FEATURES
    thresholds = np.concatenate([tree.nodes["num_threshold"] for (tree,) in estimator._predictors])
    x = rows(seed + 1)
    x[: len(thresholds), 1] = thresholds[: len(x)]  # exactly on the edge too
    assert np.abs(loaded.predict_proba(x) - estimator.predict_proba(x)).max() < 1e-14


def test_a_row_has_one_score_whatever_is_around_it() -> None:
    loaded, x = trees.load(dumped(fitted())), rows(3, 2_000)
    whole = loaded.predict_proba(x)
    for size in (1, 7, 128):
        pieces = [loaded.predict_proba(x[at : at + size]) for at in range(0, 512, size)]
        assert np.concatenate(pieces)[:512].tolist() == whole[:512].tolist()
    assert loaded.predict_proba(x[::2]).tolist() == whole[::2].tolist(), "a view with gaps"


def test_trees_without_a_split_score_everything_alike() -> None:
    x, truth = np.zeros((50, FEATURES)), np.arange(50) % 2 == 0
    estimator = HistGradientBoostingClassifier(max_iter=3).fit(x, truth)
    assert len(estimator._predictors[0][0].nodes) == 1
    loaded = trees.load(dumped(estimator))
    assert loaded.predict_proba(rows(1)).tolist() == estimator.predict_proba(rows(1)).tolist()


@pytest.mark.parametrize(
    "other",
    [
        lambda x, y: GradientBoostingClassifier(n_estimators=3).fit(x, y),
        lambda x, y: HistGradientBoostingClassifier(max_iter=3).fit(x, y + (x[:, 2] > 1)),
        lambda x, y: HistGradientBoostingClassifier(max_iter=3, categorical_features=[0]).fit(x, y),
    ],
    ids=["other trees", "three classes", "categories"],
)
def test_what_it_cannot_say_is_left_to_others(other: Callable[[Floats, Any], Any]) -> None:
    x = rows(0)
    assert trees.dump(other(x, (x[:, 0] > 2).astype(int))) is None


def test_trees_that_would_not_be_loaded_are_left_to_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trees, "DEPTH_MAX", 2)
    assert trees.dump(fitted(leaves=31)) is None
    assert trees.dump(fitted(leaves=2)) is not None


# -- what is refused ---------------------------------------------------------------------------


@pytest.mark.parametrize("data", [b"", b"junk", b"\x08\x09"])
def test_a_file_that_is_none_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"is no ONNX file|has inputs and outputs"):
        trees.load(data)


def dumped(estimator: Any) -> bytes:
    data = trees.dump(estimator)
    assert data is not None
    return data


def changed(change: Callable[[onnx.NodeProto, onnx.GraphProto], object]) -> bytes:
    model = onnx.load_model_from_string(dumped(fitted()))
    change(model.graph.node[0], model.graph)
    data: bytes = model.SerializeToString()
    return data


def attribute(node: onnx.NodeProto, name: str) -> Any:
    return next(each for each in node.attribute if each.name == name)


def another_operator(_node: onnx.NodeProto, graph: onnx.GraphProto) -> None:
    graph.node.append(helper.make_node("Identity", ["odds"], ["more"]))


def another_type(node: onnx.NodeProto, _graph: onnx.GraphProto) -> None:
    node.op_type, node.domain = "Loop", ""


def a_number_from_a_file(node: onnx.NodeProto, _graph: onnx.GraphProto) -> None:
    tensor = attribute(node, "leaf_weights").t
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="passwd")


def other_names(_node: onnx.NodeProto, graph: onnx.GraphProto) -> None:
    graph.input[0].name = "x"


def an_initializer(_node: onnx.NodeProto, graph: onnx.GraphProto) -> None:
    graph.initializer.append(helper.make_tensor("rows", TensorProto.DOUBLE, [1], [0.0]))


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (another_operator, "expected one TreeEnsemble"),
        (another_type, "expected one TreeEnsemble"),
        (an_initializer, "expected one TreeEnsemble"),
        (a_number_from_a_file, "numbers outside of the file"),
        (other_names, "has inputs and outputs"),
    ],
)
def test_anything_but_one_ensemble_is_refused(change: Any, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        trees.load(changed(change))


@pytest.mark.parametrize(
    ("name", "place", "value"),
    [
        ("nodes_falsenodeids", 0, -1),
        ("nodes_falsenodeids", 0, 10**6),
        ("nodes_featureids", 2, FEATURES),
        ("tree_roots", 1, 10**6),
        ("leaf_targetids", 0, 1),
    ],
)
def test_an_index_that_leads_nowhere_is_refused(name: str, place: int, value: int) -> None:
    def change(node: onnx.NodeProto, _graph: onnx.GraphProto) -> None:
        attribute(node, name).ints[place] = value

    with pytest.raises(ValueError, match="do not hold together"):
        trees.load(changed(change))


@pytest.mark.parametrize("side", ["true", "false"])
def test_a_tree_that_goes_round_in_a_circle_is_refused(side: str) -> None:
    def change(node: onnx.NodeProto, _graph: onnx.GraphProto) -> None:
        place = list(attribute(node, f"nodes_{side}leafs").ints).index(0)
        attribute(node, f"nodes_{side}nodeids").ints[place] = place

    with pytest.raises(ValueError, match="do not hold together"):
        trees.load(changed(change))


@pytest.mark.parametrize("name", ["nodes_trueleafs", "leaf_targetids", "nodes_truenodeids"])
def test_lists_of_other_lengths_are_refused(name: str) -> None:
    def change(node: onnx.NodeProto, _graph: onnx.GraphProto) -> None:
        del attribute(node, name).ints[-1]

    with pytest.raises(ValueError, match="do not hold together"):
        trees.load(changed(change))

"""Boosted trees as a single ONNX operator: scikit-learn trains them, ONNX Runtime serves them.

scikit-learn asks each tree with a call of its own and checks its input first: half a millisecond for one row as for
forty, and its import takes 100 MB. The same trees as one `TreeEnsemble` in double precision take 10 to 30 microseconds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, NodeProto

FILE: Final = "model.onnx"
_DOMAIN: Final = "ai.onnx.ml"
_OPERATOR: Final = "TreeEnsemble"
_OPSETS: Final = (("", 18), (_DOMAIN, 5))
"""The first of `_DOMAIN` whose trees compare and add in double precision."""
_IR_VERSION: Final = 9
_LESS_OR_EQUAL: Final = 0
_SUM: Final = 1

Floats = npt.NDArray[np.float64]


class Trees:
    """Trees that are loaded, with the two things that `Scorer` asks of an estimator."""

    def __init__(self, session: Any, features: int) -> None:
        self._session = session
        self.n_features_in_ = features

    def predict_proba(self, matrix: Floats) -> Floats:
        """Probabilities of both classes, (n, 2), of rows (n, features)."""
        (odds,) = self._session.run(None, {"rows": np.ascontiguousarray(matrix)})
        positive = 1 / (1 + np.exp(-odds[:, 0]))
        return np.column_stack([1 - positive, positive])


@dataclass(slots=True)
class _Flat:
    """All trees in the operator's own arrays; inner nodes and leaves are counted apart."""

    roots: list[int] = field(default_factory=list)
    features: list[int] = field(default_factory=list)
    splits: list[float] = field(default_factory=list)
    missing_left: list[int] = field(default_factory=list)
    left: list[int] = field(default_factory=list)
    right: list[int] = field(default_factory=list)
    left_is_leaf: list[int] = field(default_factory=list)
    right_is_leaf: list[int] = field(default_factory=list)
    leaves: list[float] = field(default_factory=list)

    def add(self, nodes: npt.NDArray[Any], base: float) -> None:
        """One tree of scikit-learn's, ``base`` added to all its leaves."""
        is_leaf = nodes["is_leaf"].astype(bool)
        # A node's number among the leaves or among the inner nodes of all trees.
        place = np.where(
            is_leaf,
            len(self.leaves) + np.cumsum(is_leaf) - 1,
            len(self.features) + np.cumsum(~is_leaf) - 1,
        )
        inner = nodes[~is_leaf] if len(nodes) > 1 else nodes  # a root is always an inner node here
        left, right = inner["left"], inner["right"]  # of a lone leaf both are itself
        self.roots.append(len(self.features))
        self.features += inner["feature_idx"].astype(int).tolist()
        self.splits += inner["num_threshold"].tolist()
        self.missing_left += inner["missing_go_to_left"].astype(int).tolist()
        self.left += place[left].tolist()
        self.right += place[right].tolist()
        self.left_is_leaf += is_leaf[left].astype(int).tolist()
        self.right_is_leaf += is_leaf[right].astype(int).tolist()
        self.leaves += (base + nodes["value"][is_leaf]).tolist()


def dump(estimator: Any) -> bytes | None:
    """The trees as an ONNX file; None where the estimator is anything but two-class boosted trees over numbers."""
    from sklearn.ensemble import HistGradientBoostingClassifier  # noqa: PLC0415

    if type(estimator) is not HistGradientBoostingClassifier:
        return None
    if len(estimator.classes_) != 2 or estimator.is_categorical_ is not None:
        return None
    flat = _Flat()
    base = float(np.ravel(estimator._baseline_prediction)[0])  # noqa: SLF001 - nothing public says where it splits
    for number, (tree,) in enumerate(estimator._predictors):  # noqa: SLF001
        # In the first tree's leaves the sum comes in scikit-learn's order, so that it is the same to the last bit.
        flat.add(tree.nodes, 0.0 if number else base)
    data: bytes = _model(flat, estimator.n_features_in_).SerializeToString(deterministic=True)
    return data


def _model(flat: _Flat, features: int) -> ModelProto:
    from onnx import TensorProto, helper  # noqa: PLC0415

    def doubles(name: str, values: Sequence[float]) -> TensorProto:
        return helper.make_tensor(name, TensorProto.DOUBLE, [len(values)], values)

    count = len(flat.features)
    node = helper.make_node(
        _OPERATOR,
        ["rows"],
        ["odds"],
        domain=_DOMAIN,
        n_targets=1,
        aggregate_function=_SUM,
        post_transform=0,
        tree_roots=flat.roots,
        nodes_featureids=flat.features,
        nodes_splits=doubles("splits", flat.splits),
        nodes_modes=helper.make_tensor("modes", TensorProto.UINT8, [count], [_LESS_OR_EQUAL] * count),
        nodes_missing_value_tracks_true=flat.missing_left,
        nodes_truenodeids=flat.left,
        nodes_falsenodeids=flat.right,
        nodes_trueleafs=flat.left_is_leaf,
        nodes_falseleafs=flat.right_is_leaf,
        leaf_targetids=[0] * len(flat.leaves),
        leaf_weights=doubles("leaves", flat.leaves),
    )
    shapes = {"rows": [None, features], "odds": [None, 1]}
    (rows, odds) = (
        helper.make_tensor_value_info(name, TensorProto.DOUBLE, of) for name, of in shapes.items()
    )
    graph = helper.make_graph([node], "trees", [rows], [odds])
    opsets = [helper.make_opsetid(domain, number) for domain, number in _OPSETS]
    return helper.make_model(graph, opset_imports=opsets, ir_version=_IR_VERSION, producer_name="pointsman")


def load(data: bytes) -> Trees:
    """The trees of a file that `dump` made. Raises ValueError for anything else.

    One operator, all its numbers in the file, and children only behind their parents: such a file computes a sum, and
    can neither read another file nor go round in circles.
    """
    import onnx  # noqa: PLC0415
    import onnxruntime  # noqa: PLC0415

    try:
        graph = onnx.load_model_from_string(data).graph
    except Exception as error:  # any file may stand there: whatever its parser raises means the same
        msg = f"is no ONNX file ({error})"
        raise ValueError(msg) from error
    features = _features(graph)
    _check_sound(_only_operator(graph), features)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1  # one thread asks; others would only spin
    options.enable_cpu_mem_arena = False
    options.log_severity_level = 3
    try:
        session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its exceptions have no base of their own
        msg = f"cannot be loaded by ONNX Runtime {onnxruntime.__version__}: {error}"
        raise ValueError(msg) from error
    return Trees(session, features)


def _features(graph: GraphProto) -> int:
    names = ([each.name for each in graph.input], [each.name for each in graph.output])
    if names != (["rows"], ["odds"]):
        msg = f"has inputs and outputs {names}, expected rows and odds"
        raise ValueError(msg)
    dimensions = graph.input[0].type.tensor_type.shape.dim
    return int(dimensions[-1].dim_value) if len(dimensions) == 2 else 0


def _only_operator(graph: GraphProto) -> NodeProto:
    found = [f"{node.domain}.{node.op_type}" for node in graph.node]
    if found != [f"{_DOMAIN}.{_OPERATOR}"] or graph.initializer or graph.sparse_initializer:
        msg = f"holds {', '.join(found) or 'nothing'}, expected one {_OPERATOR} and no more"
        raise ValueError(msg)
    only: NodeProto = graph.node[0]
    return only


def _check_sound(node: NodeProto, features: int) -> None:
    """Every index within its array, and every inner child behind its parent."""
    from onnx import AttributeProto, TensorProto, numpy_helper  # noqa: PLC0415

    tensors = [each.t for each in node.attribute if each.type == AttributeProto.TENSOR]
    if any(each.external_data or each.data_location == TensorProto.EXTERNAL for each in tensors):
        msg = "has numbers outside of the file"
        raise ValueError(msg)
    ints = {each.name: np.array(each.ints, dtype=np.int64) for each in node.attribute}
    sizes = {each.name: numpy_helper.to_array(each).size for each in tensors}
    count, leaves = len(ints["nodes_featureids"]), sizes["leaves"]
    own = np.arange(count)
    lengths = {len(ints[name]) for name in _PER_NODE} | {sizes["splits"], sizes["modes"]}
    sound = lengths == {count} and len(ints["leaf_targetids"]) == leaves and not ints["leaf_targetids"].any()
    sound = sound and _within(ints["nodes_featureids"], features) and _within(ints["tree_roots"], count)
    for child, is_leaf in _CHILDREN:
        to, leaf = ints[child], ints[is_leaf] != 0
        sound = sound and _within(to[leaf], leaves) and _within(to[~leaf], count)
        sound = sound and bool((to[~leaf] > own[~leaf]).all())
    if not sound:
        msg = "has trees that do not hold together"
        raise ValueError(msg)


_CHILDREN: Final = (("nodes_truenodeids", "nodes_trueleafs"), ("nodes_falsenodeids", "nodes_falseleafs"))
_PER_NODE: Final = (*chain(*_CHILDREN), "nodes_missing_value_tracks_true")


def _within(indices: npt.NDArray[np.int64], count: int) -> bool:
    return bool(((indices >= 0) & (indices < count)).all())

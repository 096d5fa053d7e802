"""Boosted trees as a single ONNX operator: scikit-learn trains them, ONNX Runtime serves them.

scikit-learn asks each tree with a call of its own and checks its input first: half a millisecond for one row as for
forty, and its import takes 100 MB. The same trees as one `TreeEnsemble` in double precision take 10 to 30 microseconds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, NodeProto, TensorProto

FILE: Final = "model.onnx"
_DOMAIN: Final = "ai.onnx.ml"
_OPERATOR: Final = "TreeEnsemble"
_OPSETS: Final = (("", 18), (_DOMAIN, 5))
"""The first of `_DOMAIN` whose trees compare and add in double precision."""
_IR_VERSION: Final = 9
_LESS_OR_EQUAL: Final = 0
_SUM: Final = 1
DEPTH_MAX: Final = 1_000
"""Inner nodes on a path. Trees of 31 leaves have 30 at most; a path of 20,000 overflows the stack of ONNX Runtime."""

Floats = npt.NDArray[np.float64]
_Side: TypeAlias = tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]


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
    """The trees as an ONNX file; None where the estimator is anything but two-class boosted trees over numbers,
    or `load` would refuse them.
    """
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
    if not _holds_together(flat, estimator.n_features_in_):  # as where it grew deeper than `load` takes
        return None
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
    can neither read another file nor go round in circles. The runtime is native code and gets what was looked at, written
    anew, and never the file: of what else may be in it nothing is left.
    """
    import onnx  # noqa: PLC0415
    import onnxruntime  # noqa: PLC0415

    try:
        model = onnx.load_model_from_string(data)
    except Exception as error:  # any file may stand there: whatever its parser raises means the same
        msg = f"is no ONNX file ({error})"
        raise ValueError(msg) from error
    features = _features(model.graph)
    flat = _read(_only_operator(model))
    if not _holds_together(flat, features):
        msg = "has trees that do not hold together"
        raise ValueError(msg)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1  # one thread asks; others would only spin
    options.enable_cpu_mem_arena = False
    options.log_severity_level = 3
    anew = _model(flat, features).SerializeToString()
    try:
        session = onnxruntime.InferenceSession(anew, options, providers=["CPUExecutionProvider"])
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


def _only_operator(model: ModelProto) -> NodeProto:
    graph = model.graph
    found = [f"{node.domain}.{node.op_type}" for node in graph.node]
    more = graph.initializer or graph.sparse_initializer or model.functions
    if found != [f"{_DOMAIN}.{_OPERATOR}"] or more:
        msg = f"holds {', '.join(found) or 'nothing'}, expected one {_OPERATOR} and no more"
        raise ValueError(msg)
    only: NodeProto = graph.node[0]
    return only


def _read(node: NodeProto) -> _Flat:
    """The operator's arrays, each there once. Raises ValueError for an operator that does anything but add up."""
    from onnx import AttributeProto, TensorProto  # noqa: PLC0415

    found = {each.name: each for each in node.attribute}
    if len(found) < len(node.attribute) or found.keys() != {*_SETTINGS, *_LISTS, *_TENSORS}:
        msg = "has other attributes than trees have"
        raise ValueError(msg)
    flat = _Flat(
        **{own: list(found[name].ints) for name, own in _LISTS.items() if own},
        splits=_numbers(found["nodes_splits"].t, TensorProto.DOUBLE),
        leaves=_numbers(found["leaf_weights"].t, TensorProto.DOUBLE),
    )
    modes = _numbers(found["nodes_modes"].t, TensorProto.UINT8)
    targets = list(found["leaf_targetids"].ints)
    settings = {name: found[name].i for name in _SETTINGS if found[name].type == AttributeProto.INT}
    if (
        settings != _SETTINGS
        or modes != [_LESS_OR_EQUAL] * len(flat.features)
        or targets != [0] * len(flat.leaves)
    ):
        msg = "has trees that do not hold together as one sum over splits by <="
        raise ValueError(msg)
    return flat


def _numbers(tensor: TensorProto, type_: int) -> list[Any]:
    from onnx import TensorProto, numpy_helper  # noqa: PLC0415

    if tensor.external_data or tensor.data_location == TensorProto.EXTERNAL:
        msg = "has numbers outside of the file"
        raise ValueError(msg)
    try:
        found = numpy_helper.to_array(tensor) if tensor.data_type == type_ else None
    except Exception as error:  # sizes that are not those of the numbers, in whatever way that shows
        msg = f"has numbers that cannot be read ({error})"
        raise ValueError(msg) from error
    if found is None or found.ndim != 1:
        msg = "has numbers of another type or shape"
        raise ValueError(msg)
    numbers: list[Any] = found.tolist()
    return numbers


def _holds_together(flat: _Flat, features: int) -> bool:
    """Lists of one length, every index within its array, and every inner child behind its parent."""
    count, own = len(flat.features), np.arange(len(flat.features))
    sides = _sides(flat)
    lengths = {len(flat.splits), len(flat.missing_left), *(len(each) for side in sides for each in side)}
    if count == 0 or lengths != {count} or not _within(flat.features, features):
        return False
    if not all(_within(each, 2) for each in (flat.missing_left, flat.left_is_leaf, flat.right_is_leaf)):
        return False
    for to, leaf in sides:
        if not (_within(to[leaf], len(flat.leaves)) and _within(to[~leaf], count)):
            return False
        if not (to[~leaf] > own[~leaf]).all():
            return False
    return _within(flat.roots, count) and _are_trees(flat, sides)


def _are_trees(flat: _Flat, sides: list[_Side]) -> bool:
    """Every inner node in one place, and none too deep.

    The runtime walks each tree from its root, by calls within calls: a node with two parents would be walked twice, which
    doubles at each level, and a path of some thousand nodes ends the process.
    """
    level = np.array(flat.roots, dtype=np.int64)
    places = np.concatenate([level, *(to[~leaf] for to, leaf in sides)])
    if (np.bincount(places, minlength=len(flat.features)) != 1).any():
        return False
    for _ in range(DEPTH_MAX):
        level = np.concatenate([to[level][~leaf[level]] for to, leaf in sides])
        if not len(level):
            return True
    return False


def _sides(flat: _Flat) -> list[_Side]:
    """Children to the left and to the right, and which of them are leaves."""
    sides = ((flat.left, flat.left_is_leaf), (flat.right, flat.right_is_leaf))
    return [(np.array(to, dtype=np.int64), np.array(leaf, dtype=np.int64) != 0) for to, leaf in sides]


def _within(indices: Sequence[int] | npt.NDArray[np.int64], count: int) -> bool:
    found = np.asarray(indices, dtype=np.int64)
    return bool(((found >= 0) & (found < count)).all())


_SETTINGS: Final = {"n_targets": 1, "aggregate_function": _SUM, "post_transform": 0}
_TENSORS: Final = ("nodes_splits", "nodes_modes", "leaf_weights")
_LISTS: Final = {
    "tree_roots": "roots",
    "nodes_featureids": "features",
    "nodes_missing_value_tracks_true": "missing_left",
    "nodes_truenodeids": "left",
    "nodes_falsenodeids": "right",
    "nodes_trueleafs": "left_is_leaf",
    "nodes_falseleafs": "right_is_leaf",
    "leaf_targetids": "",
}
"""Attribute to its place in `_Flat`; that of the targets is the same for all and stands nowhere."""

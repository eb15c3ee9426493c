"""Building an ONNX graph node by node."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

#: Opset of the operators.
OPSET = 18


class Graph:
    r"""Nodes, constants, inputs and outputs of an ONNX graph; values go by their names.

    Args:
        name: What to call the graph.

    Example:
        >>> graph = Graph("doubled")
        >>> x = graph.input("x", np.float32, ["n"])
        >>> graph.output("y", np.float32, ["n"], graph.add("Add", x, x))
        >>> [node.op_type for node in graph.model(8, {}).graph.node]
        ['Add', 'Identity']
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._nodes: list[Any] = []
        self._constants: list[Any] = []
        self._inputs: list[Any] = []
        self._outputs: list[Any] = []

    def input(
        self,
        name: str,
        dtype: npt.DTypeLike,
        shape: Sequence[int | str],
        default: npt.NDArray[Any] | None = None,
    ) -> str:
        """Declare an input, which may be left out if it has a default."""
        self._inputs.append(self._told(name, dtype, shape))
        return name if default is None else self.constant(default, name)

    def output(
        self, name: str, dtype: npt.DTypeLike, shape: Sequence[int | str], value: str
    ) -> None:
        """Declare an output."""
        from onnx import helper

        self._nodes.append(helper.make_node("Identity", [value], [name]))
        self._outputs.append(self._told(name, dtype, shape))

    def constant(self, values: npt.ArrayLike, name: str | None = None) -> str:
        """Hold an array; integers without a dtype are int64."""
        from onnx import numpy_helper

        name = f"c{len(self._constants)}" if name is None else name
        self._constants.append(numpy_helper.from_array(np.asarray(values), name))
        return name

    def add(self, operator: str, *inputs: str, **attributes: Any) -> str:
        """Apply an operator of one output."""
        return self.add_several(operator, 1, *inputs, **attributes)[0]

    def add_several(self, operator: str, count: int, *inputs: str, **attributes: Any) -> list[str]:
        """Apply an operator of several outputs."""
        from onnx import helper

        outputs = [f"v{len(self._nodes)}.{number}" for number in range(count)]
        self._nodes.append(helper.make_node(operator, inputs, outputs, **attributes))
        return outputs

    def cast(self, value: str, dtype: npt.DTypeLike) -> str:
        """Change the type of a value."""
        from onnx import helper

        return self.add("Cast", value, to=helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))

    def split(self, value: str, axis: int) -> list[str]:
        """Halve a value along an axis."""
        return self.add_several("Split", 2, value, axis=axis, num_outputs=2)

    def filled(self, shape: str, value: np.float32) -> str:
        """An array of one value."""
        from onnx import numpy_helper

        held = numpy_helper.from_array(np.array([value]))
        return self.add("ConstantOfShape", shape, value=held)

    def model(self, ir_version: int, metadata: Mapping[str, str]) -> Any:
        """The model, checked."""
        import onnx
        from onnx import helper

        graph = helper.make_graph(
            self._nodes, self.name, self._inputs, self._outputs, self._constants
        )
        opset = [helper.make_opsetid("", OPSET)]
        model = helper.make_model(
            graph, producer_name="pyg_kd", opset_imports=opset, ir_version=ir_version
        )
        helper.set_model_props(model, dict(metadata))
        onnx.checker.check_model(model, full_check=True)
        return model

    @staticmethod
    def _told(name: str, dtype: npt.DTypeLike, shape: Sequence[int | str]) -> Any:
        from onnx import helper

        told = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
        return helper.make_tensor_value_info(name, told, shape)

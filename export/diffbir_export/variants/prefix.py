"""Classifier-free guidance: what does not depend on the prompt is computed once for all branches.

In the rewritten graph x, timestep and hint have N rows, and context B*N, branch by branch (row
b*N+n); so has the output. What does not depend on context (the first levels of both networks, all
of what is made of the timestep) is computed on N rows and repeated B times, [a,b] -> [a,b,a,b],
where it meets what does. With as many contexts as pictures nothing is repeated.

Every value is one of four kinds:
    early    depends on x, timestep or hint, not on context: N rows
    late     depends on context: B*N rows
    free     depends on weights and strength alone: no rows, used as it is
    shape    integers made of other values' shapes: both forms may be needed, and a form is made by
             doing the same integer arithmetic on the other number of rows
Axis 0 of early and late values is the batch wherever such a shape is taken.
"""

from __future__ import annotations

from onnx import NodeProto

from .graph import Graph, attributes, node

EARLY = ("x", "timestep", "hint")
PREFIX = "shared"


def shape_values(graph: Graph) -> set[str]:
    """Values that are made of shapes."""
    shapes: set[str] = set()
    for maker in graph.nodes:
        made = [name for name in maker.input if name and name not in graph.tensors]
        if maker.op_type == "Shape" or (made and shapes.issuperset(made)):
            shapes.update(maker.output)
    return shapes


class Sharing:
    """One pass over a sorted graph."""

    def __init__(self, graph: Graph, late: set[str]) -> None:
        self.graph = graph
        self.shapes = shape_values(graph)
        self.early, self.late = {i.name for i in graph.inputs} & set(EARLY), set(late)
        for maker in graph.nodes:
            if maker.output[0] not in self.shapes:
                names = set(maker.input) - self.shapes
                made = filter(None, maker.output)
                if names & self.late:
                    self.late.update(made)
                elif names & self.early:
                    self.early.update(made)
        self.new: list[NodeProto] = []
        self.forms: dict[tuple[str, bool], str] = {}
        self.repeated: dict[str, str] = {}

    def add(self, op: str, inputs: list[str], output: str, **values: object) -> str:
        """A new node; returns its output."""
        self.new.append(node(op, inputs, output, **values))
        return output

    def rows(self, late: bool) -> str:
        """The number of rows, [1]."""
        name = f"{PREFIX}/{'late' if late else 'early'}_rows"
        if (name, late) not in self.forms:
            self.forms[name, late] = self.add(
                "Shape", ["context" if late else "x"], name, start=0, end=1
            )
        return name

    def repeat(self, name: str) -> str:
        """An early value with B*N rows."""
        if not self.repeated:
            count, n = self.rows(True), self.rows(False)
            zero, one = (self.graph.integers(f"{PREFIX}/{i}", i) for i in range(2))
            end = self.add("Squeeze", [count], f"{PREFIX}/end")
            rows = self.add("Range", [zero, end, one], f"{PREFIX}/range")
            self.add("Mod", [rows, n], f"{PREFIX}/index")
        if name not in self.repeated:
            index = f"{PREFIX}/index"
            self.repeated[name] = self.add("Gather", [name, index], f"{name}/repeated", axis=0)
        return self.repeated[name]

    def form(self, name: str, late: bool) -> str:
        """A shape value as late or early nodes need it."""
        if name not in self.shapes:
            return name
        if (name, late) not in self.forms:
            self.forms[name, late] = self.make_form(self.graph.maker(name), name, late)
        return self.forms[name, late]

    def make_form(self, maker: NodeProto, name: str, late: bool) -> str:
        """The nodes behind `form`; the value itself where nothing changes."""
        result = f"{name}/{'late' if late else 'early'}"
        if maker.op_type == "Shape":
            other = self.early if late else self.late
            bounds = attributes(maker)
            start, end = bounds.get("start", 0), bounds.get("end")
            if maker.input[0] not in other or start > 0:
                return name
            if start < 0:
                raise self.graph.refuse(f"{name} may or may not hold the batch")
            if end == 1:
                return self.rows(late)
            rest = {"start": 1} | ({} if end is None else {"end": end})
            sides = self.add("Shape", [maker.input[0]], f"{result}/sides", **rest)
            return self.add("Concat", [self.rows(late), sides], result, axis=0)
        inputs = [self.form(i, late) for i in maker.input]
        if inputs == list(maker.input):
            return name
        return self.add(maker.op_type, inputs, result, **attributes(maker))

    def run(self) -> int:
        """Rewrites all nodes; returns how many values are repeated."""
        for maker in self.graph.nodes:
            late = maker.output[0] in self.late
            if not late and maker.output[0] not in self.early:
                continue
            for i, name in enumerate(maker.input):
                if name in self.shapes:
                    maker.input[i] = self.form(name, late)
                elif late and name in self.early:
                    maker.input[i] = self.repeat(name)
        self.graph.nodes += self.new
        self.graph.index()
        return len(self.repeated)

    def repeat_outputs(self) -> None:
        """Gives B*N rows to the graph's outputs that have fewer."""
        for name in [name for name in self.graph.output_names if name not in self.late]:
            once = f"{name}/once"
            self.graph.rename(name, once)
            self.early = self.early - {name} | {once}
            self.add("Identity", [self.repeat(once)], name)


def share_prefix(graph: Graph, late: set[str]) -> int:
    """Rewrites a graph whose inputs `late` have B*N rows; returns how many values are repeated."""
    graph.sort()
    sharing = Sharing(graph, late)
    if not sharing.late & set(graph.output_names):
        raise graph.refuse("no output depends on context")
    sharing.repeat_outputs()
    count = sharing.run()
    graph.sort()
    return count

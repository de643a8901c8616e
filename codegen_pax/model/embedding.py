"""Token embedding with the bias that jaxformer trains."""

from praxis import base_layer, pytypes
from praxis.layers import embedding_softmax


class Embedding(embedding_softmax.Embedding):
    """Looks tokens up and adds one vector to all of them.

    output: [B, T, D] = table[ids] + bias

    jaxformer embeds by a linear layer on one-hot tokens, whose bias is trained and, having one
    axis, never decayed. The released weights have it folded into the table.

    Attributes:
        use_bias: whether there is a bias, variable `b` [D], beside the table `emb_var` [V, D].
    """

    use_bias: bool = False

    def setup(self) -> None:
        super().setup()
        if self.use_bias:
            self.create_variable(
                "b",
                base_layer.WeightHParams(
                    shape=[self.input_dims],
                    init=base_layer.WeightInit.Constant(0.0),
                    mesh_shape=self.mesh_shape,
                    tensor_split_dims_mapping=[None],
                ),
            )

    def emb_lookup(self, ids: pytypes.JTensor) -> pytypes.JTensor:
        """Returns the vectors [..., D] of the tokens `ids` [...]."""
        vectors = super().emb_lookup(ids)
        return vectors + self.theta.b if self.use_bias else vectors

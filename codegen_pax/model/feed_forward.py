"""The feed-forward half of a block: no norm and no skip connection of its own."""

from praxis import base_layer, pax_fiddle, pytypes
from praxis.layers import linears, transformers


class FeedForward(transformers.TransformerFeedForward):
    """Two projections with a GELU between them, each with its own initial scale and sharding.

    inner:  [B, T, F] = gelu(inputs @ W_in + b_in)
    output: [B, T, D] = inner @ W_out + b_out

    praxis makes both projections from one template, so what differs is set where they are created.

    Attributes:
        output_init: how W_out [F, D] starts; W_in starts as `fflayer_tpl.weight_init` says.
    """

    output_init: base_layer.WeightInit | None = None

    class WeightSharding(transformers.TransformerFeedForward.WeightSharding):
        """How the weights lie on the mesh.

        Attributes:
            ffn0_bias: how b_in [F] is split.
        """

        ffn0_bias: pytypes.SplitDimsMapping = None

    def create_child(self, name: str, params: pax_fiddle.Config) -> None:
        if name == "ffn_layer1":
            split_dims = self.weight_split_dims_mapping.ffn0_bias
            params.bias_tpl = pax_fiddle.Config(ShardedBias, split_dims=split_dims)
        elif name == "ffn_layer2":
            params.weight_init = self.output_init
        super().create_child(name, params)


class ShardedBias(linears.Bias):
    """A bias with a sharding of its own.

    `linears.FeedForward` gives its bias the sharding of its output's last axis. On a mesh without
    a model axis that leaves the widest bias, [layers, F], whole on every device.

    Attributes:
        split_dims: how [F] is split over the mesh.
    """

    split_dims: pytypes.SplitDimsMapping = None

    def setup(self) -> None:
        self.create_variable(
            "b",
            base_layer.WeightHParams(
                shape=[self.dims],
                init=base_layer.WeightInit.Constant(self.bias_init),
                mesh_shape=self.mesh_shape,
                tensor_split_dims_mapping=self.split_dims,
            ),
        )

"""Configurations of praxis' greedy and sampling decoders."""

import jax.numpy as jnp
from praxis import decoder_hparams, pax_fiddle, py_utils, pytypes, token_samplers

from codegen_pax import decoding_limits


class NucleusSampler(token_samplers.DefaultNextTokenSampler):
    """Nucleus sampling after the temperature is applied, as in transformers.

    tempered:  [B, V] = softmax(logits / temperature)
    nucleus:   [B, V] = the most likely tokens of `tempered` whose probabilities sum to top_p
    new_ids:   [B]    ~ tempered, within the nucleus

    praxis' sampler selects the nucleus at temperature 1 and applies the temperature afterwards; at
    a low temperature that admits many more tokens.
    """

    def __call__(
        self,
        model,
        logits: pytypes.JTensor,
        temperature: float | pytypes.JTensor,
        decode_loop_state: py_utils.NestedMap,
        **kwargs,
    ) -> py_utils.NestedMap:
        """Samples the next tokens.

        Args:
            model: the model that decodes.
            logits: [B, V].
            temperature: the logits are divided by it.
            decode_loop_state: praxis' state of the decoding loop.
            **kwargs: passed to praxis' sampler.

        Returns:
            `new_ids` [B], and the `logits` [B, V] without the temperature, from which praxis
            computes log-probabilities.
        """
        # In float32: division in bfloat16 could make different logits equal.
        tempered = logits.astype(jnp.float32) / temperature
        result = super().__call__(model, tempered, 1.0, decode_loop_state, **kwargs)
        result.logits = logits
        return result


def greedy_decoder(
    *, prompt_length: int, max_new_tokens: int, eos_id: int
) -> decoder_hparams.GreedyDecoderHParams:
    """Returns the configuration of greedy decoding.

    Args:
        prompt_length: P, the width of the batch's `ids`; prompts may be shorter.
        max_new_tokens: M, the largest number of tokens to add to each prompt.
        eos_id: the token that ends a sequence. praxis fills what follows with id 0, so truncate at
            `decode_lengths`, which counts prompt, new tokens and the end token.
    """
    return decoder_hparams.GreedyDecoderHParams(
        **_lengths(prompt_length, max_new_tokens), eos_id=eos_id
    )


def sample_decoder(
    *,
    prompt_length: int,
    max_new_tokens: int,
    eos_id: int,
    temperature: float,
    top_p: float,
    num_samples: int,
) -> decoder_hparams.SampleDecoderHParams:
    """Returns the configuration of nucleus sampling at a temperature.

    Args:
        prompt_length: P, as in `greedy_decoder`.
        max_new_tokens: M, as in `greedy_decoder`.
        eos_id: as in `greedy_decoder`.
        temperature: the logits are divided by it.
        top_p: probability mass of the nucleus, above 0 and at most 1.
        num_samples: K, the number of continuations of each prompt, in the order sampled.

    Raises:
        ValueError: a value is out of range; see `codegen_pax.decoding_limits`.
    """
    decoding_limits.check_temperature(temperature)
    decoding_limits.check_top_p(top_p)
    decoding_limits.check_samples(num_samples)
    return decoder_hparams.SampleDecoderHParams(
        **_lengths(prompt_length, max_new_tokens),
        eos_id=eos_id,
        temperature=temperature,
        p=top_p,
        # praxis' default is the 40 most likely tokens.
        k=0,
        next_token_sampler_tpl=pax_fiddle.Config(NucleusSampler),
        num_samples=num_samples,
        sort_samples=False,
    )


def _lengths(prompt_length: int, max_new_tokens: int) -> dict[str, int | bool]:
    """Returns the length fields: with a forward pass over the prompt, M counts only new tokens."""
    decoding_limits.check_length(max_new_tokens)
    return {
        "fprop_for_prefix": True,
        "seqlen": prompt_length + max_new_tokens,
        "max_decode_steps": max_new_tokens,
    }

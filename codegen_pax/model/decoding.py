"""How continuations are chosen: settings of praxis' decoders, with their traps handled."""

import jax.numpy as jnp
from praxis import decoder_hparams, pax_fiddle, py_utils, pytypes, token_samplers

from codegen_pax import limits


class NucleusSampler(token_samplers.DefaultNextTokenSampler):
    """Draws from the nucleus of the tempered distribution, as transformers does.

    tempered:  [B, V] = softmax(logits / temperature)
    nucleus:   [B, V] = the likeliest tokens of `tempered` that add up to top_p
    new_ids:   [B]    ~ tempered, within the nucleus

    praxis' own sampler cuts the nucleus first, at temperature 1, and tempers what is left: at a
    low temperature that lets many more tokens through.
    """

    def __call__(
        self,
        model,
        logits: pytypes.JTensor,
        temperature: float | pytypes.JTensor,
        decode_loop_state: py_utils.NestedMap,
        **kwargs,
    ) -> py_utils.NestedMap:
        """Returns `new_ids` [B] and, for the log-probabilities, the `logits` [B, V] untempered."""
        # A quotient of bfloat16 has as many values, but other ones may be alike.
        tempered = logits.astype(jnp.float32) / temperature
        drawn = super().__call__(model, tempered, 1.0, decode_loop_state, **kwargs)
        drawn.logits = logits
        return drawn


def greedy_decoder(
    *, prompt_length: int, max_new_tokens: int, eos_id: int
) -> decoder_hparams.GreedyDecoderHParams:
    """Returns the settings for always taking the likeliest token.

    Args:
        prompt_length: P, the width of the batch's `ids`; shorter prompts are fine.
        max_new_tokens: M, at most so many tokens after each prompt.
        eos_id: the token that ends a row; what follows it is filled with id 0, so cut at
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
    """Returns the settings for drawing tokens at a temperature from the nucleus `top_p`.

    Args:
        prompt_length, max_new_tokens, eos_id: as in `greedy_decoder`.
        temperature: the logits are divided by it.
        top_p: probability, above 0 and at most 1.
        num_samples: K, continuations of each prompt, kept in the order drawn.

    Raises:
        ValueError: a number is out of its range: see `limits`.
    """
    limits.check_temperature(temperature)
    limits.check_top_p(top_p)
    limits.check_samples(num_samples)
    return decoder_hparams.SampleDecoderHParams(
        **_lengths(prompt_length, max_new_tokens),
        eos_id=eos_id,
        temperature=temperature,
        p=top_p,
        # praxis draws from the 40 likeliest unless told otherwise.
        k=0,
        next_token_sampler_tpl=pax_fiddle.Config(NucleusSampler),
        num_samples=num_samples,
        sort_samples=False,
    )


def _lengths(prompt_length: int, max_new_tokens: int) -> dict[str, int | bool]:
    """How far to decode: with one forward pass over the prompt, M counts new tokens alone."""
    limits.check_length(max_new_tokens)
    return {
        "fprop_for_prefix": True,
        "seqlen": prompt_length + max_new_tokens,
        "max_decode_steps": max_new_tokens,
    }

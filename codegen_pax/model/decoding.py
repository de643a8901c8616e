"""Configurations of the decoder of prompts, for Pax."""

import dataclasses

from praxis import decoder_hparams

from codegen_pax import decoding_limits


@dataclasses.dataclass
class PromptDecoder(decoder_hparams.DecoderHParams):
    """How `CodeGenModel` continues prompts: by `generation.generate`.

    Any other of praxis' configurations is decoded by praxis' own loops, which take several times
    as long on a CPU.

    Attributes:
        temperature: the logits are divided by it; 0 takes the likeliest token.
        top_p: the probability mass of the nucleus, after the temperature, as in transformers.
        num_samples: K, the number of continuations of each prompt, in the order sampled.
    """

    temperature: float = 0.0
    top_p: float = 1.0
    num_samples: int = 1


def greedy_decoder(*, prompt_length: int, max_new_tokens: int, eos_id: int) -> PromptDecoder:
    """Returns the configuration of greedy decoding.

    Args:
        prompt_length: P, the width of the batch's `ids`; prompts may be shorter.
        max_new_tokens: M, the largest number of tokens to add to each prompt.
        eos_id: the token that ends a sequence. What follows it is filled with id 0, so truncate at
            `decode_lengths`, which counts prompt, new tokens and the end token.
    """
    decoding_limits.check_length(max_new_tokens)
    return PromptDecoder(
        seqlen=prompt_length + max_new_tokens, max_decode_steps=max_new_tokens, eos_id=eos_id
    )


def sample_decoder(
    *,
    prompt_length: int,
    max_new_tokens: int,
    eos_id: int,
    temperature: float,
    top_p: float,
    num_samples: int,
) -> PromptDecoder:
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
    greedy = greedy_decoder(
        prompt_length=prompt_length, max_new_tokens=max_new_tokens, eos_id=eos_id
    )
    return dataclasses.replace(
        greedy, temperature=temperature, top_p=top_p, num_samples=num_samples
    )

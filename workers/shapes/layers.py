"""Layers of one kind in numbers: what a token costs in each, and what a sequence leaves behind.

Pure values and sums over them. Knows no family and reads no configuration.
"""

from __future__ import annotations

from dataclasses import dataclass, fields


@dataclass(frozen=True, slots=True, kw_only=True)
class Layers:
    """`count` equal layers; every other number is of one of them.

    `*_parameters` are matrices: a token is multiplied with those of the mixer (attention or
    state), of the MLP (whole, shared experts and router) and of `experts_per_token` experts.
    `vectors` (norms, biases) and `expert_vectors` (of one expert) take memory alone.

    A token takes `pair_macs` multiply-accumulates with each token it sees, itself included: at
    most `window`. One that is decoded takes `decode_pair_macs`, where an engine keeps less than
    keys and values. `kv_elements` are kept for a token, `state_elements` for a sequence whatever
    its length; `state_macs` update and read the state, for a token.
    """

    count: int = 1
    mixer_parameters: int = 0
    mlp_parameters: int = 0
    expert_parameters: int = 0
    expert_vectors: int = 0
    experts: int = 0
    experts_per_token: int = 0
    vectors: int = 0
    pair_macs: int = 0
    decode_pair_macs: int = 0
    kv_elements: int = 0
    window: int | None = None
    state_elements: int = 0
    state_macs: int = 0

    @property
    def matrices(self) -> int:
        """Parameters of the matrices of one layer, all experts included."""
        experts = self.experts * self.expert_parameters
        return self.mixer_parameters + self.mlp_parameters + experts

    @property
    def active_matrices(self) -> int:
        """Parameters of one layer that a token is multiplied with."""
        chosen = self.experts_per_token * self.expert_parameters
        return self.mixer_parameters + self.mlp_parameters + chosen

    @property
    def parameters(self) -> int:
        """All parameters of one layer."""
        return self.matrices + self.vectors + self.experts * self.expert_vectors

    @property
    def idle_parameters(self) -> int:
        """Parameters of the experts of one layer that a token does not choose."""
        idle = self.experts - self.experts_per_token
        return idle * (self.expert_parameters + self.expert_vectors)

    def seen(self, first: int, last: int) -> int:
        """Return how many tokens are seen, in sum, by those of context `first` to `last`.

        The context of a token is how many tokens there are up to it, itself included.
        """
        if last < first:
            return 0
        if self.window is None or last <= self.window:
            return (first + last) * (last - first + 1) // 2
        beyond = max(first, self.window + 1)
        return self.seen(first, self.window) + (last - beyond + 1) * self.window

    def flops(self, first: int, last: int, *, decode: bool) -> int:
        """Return the FLOPs of one layer for a sequence's tokens of context `first` to `last`."""
        pair = self.decode_pair_macs if decode else self.pair_macs
        each = self.active_matrices + self.state_macs
        return 2 * ((last - first + 1) * each + self.seen(first, last) * pair)

    def kept(self, context: int) -> int:
        """Return the elements one layer's cache holds of a sequence of `context` tokens."""
        tokens = context if self.window is None else min(context, self.window)
        return tokens * self.kv_elements


def joined(*parts: Layers, count: int) -> Layers:
    """Return `count` layers made of parts: a mixer, an MLP, norms; one part may have a window."""
    sums = {
        field.name: sum(getattr(part, field.name) for part in parts)
        for field in fields(Layers)
        if field.name not in ("count", "window")
    }
    windows = [part.window for part in parts if part.window is not None]
    return Layers(count=count, window=windows[0] if windows else None, **sums)

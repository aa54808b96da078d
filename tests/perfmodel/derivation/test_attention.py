import pytest

from dynawatt.perfmodel.derivation.attention import fit_decode_attention, fit_prefill_attention

REQUESTS = (1, 8, 64)


def rest_s(tokens):
    return 5e-3 + 20e-6 * tokens


def test_recovers_decode_attention(synthetic):
    measured = synthetic()
    fitted = fit_decode_attention(measured, REQUESTS, (64, 1024, 16384), 10**9, rest_s)
    assert fitted.context_s == pytest.approx([measured.context_s] * 3, rel=1e-6)
    assert fitted.fixed_s == pytest.approx([measured.decode_attention_s(count, 0) for count in REQUESTS], rel=1e-6)


def test_contexts_that_no_cache_holds_are_not_fitted(synthetic):
    class Bent(synthetic):
        def decode_attention_s(self, requests, context_tokens):
            if requests * context_tokens > 70_000:
                return 1.0
            return super().decode_attention_s(requests, context_tokens)

    fitted = fit_decode_attention(Bent(), REQUESTS, (64, 256, 1024, 16384), 70_000, rest_s)
    assert fitted.context_s == pytest.approx([Bent.context_s] * 3, rel=1e-6)


def test_two_contexts_are_fitted_even_where_the_cache_holds_none(synthetic):
    fitted = fit_decode_attention(synthetic(), (1024,), (64, 256, 1024), 100, rest_s)
    assert fitted.context_s == pytest.approx([synthetic.context_s], rel=1e-6)


def test_recovers_prefill_attention(synthetic):
    measured = synthetic()
    chunks = [(tokens, context) for tokens in (64, 512, 4096) for context in (0, 2048)]
    fitted = fit_prefill_attention(measured, chunks, rest_s)
    assert fitted.start_s == pytest.approx(measured.prefill_start_s, rel=1e-5)
    assert fitted.token_s == pytest.approx(measured.prefill_token_s, rel=1e-4)
    assert fitted.pair_s == pytest.approx(measured.pair_s, rel=1e-5)


def test_no_coefficient_is_negative(synthetic):
    class Falling(synthetic):
        def decode_attention_s(self, requests, context_tokens):
            return 1e-3 - 1e-9 * context_tokens

    fitted = fit_decode_attention(Falling(), (1,), (64, 1024, 16384), 10**9, rest_s)
    assert fitted.context_s[0] == 0
    assert fitted.fixed_s[0] > 0

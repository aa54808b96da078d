import pytest

from dynawatt.api.conditions import Reason
from dynawatt.api.remedies import NOTHING_TO_DO, REMEDIES, remedy_for


def test_every_reason_has_a_remedy_or_needs_none():
    assert REMEDIES.keys() | NOTHING_TO_DO == set(Reason)
    assert not REMEDIES.keys() & NOTHING_TO_DO


@pytest.mark.parametrize("reason", REMEDIES)
def test_is_whole_sentences_on_one_line(reason):
    text = REMEDIES[reason]
    assert text[0].isupper() or text.startswith("`")
    assert text.endswith((".", "`."))
    assert "\n" not in text
    assert text == " ".join(text.split())


def test_names_take_the_places_of_words_in_capitals():
    assert REMEDIES[Reason.INVALID_SPEC].count("NAMESPACE") == 1
    named = remedy_for("InvalidSpec", namespace="prod", name="llama")
    assert "kubectl -n prod edit llmsvc llama" in named
    assert "Deployment chat " in remedy_for("DrainNotConfigured", deployment="chat")


def test_names_that_are_not_given_stay_as_they_are():
    assert remedy_for("InvalidSpec") == REMEDIES[Reason.INVALID_SPEC]
    assert "-n NAMESPACE edit llmsvc llama" in remedy_for("InvalidSpec", name="llama")


@pytest.mark.parametrize("reason", ["Reconciled", "OfANewerVersion", ""])
def test_nothing_is_to_be_done(reason):
    assert remedy_for(reason) == ""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.series import Series

label_names = st.text(st.characters(exclude_characters='=,{}"', codec="utf-8"), min_size=1, max_size=8)
metrics = st.text(st.characters(exclude_characters="{", codec="utf-8"), min_size=1, max_size=12)
any_text = st.text(st.characters(codec="utf-8"), max_size=12)
series = st.builds(Series, metrics, st.dictionaries(label_names, any_text, max_size=4))


@given(series)
def test_a_canonical_text_reads_back_as_the_same_series(original: Series) -> None:
    assert Series.parse(original.text()) == original


@given(series)
def test_the_order_of_labels_does_not_change_the_text(original: Series) -> None:
    turned = Series(original.metric, dict(reversed(original.labels.items())))
    assert turned.text() == original.text()


@pytest.mark.parametrize("text", ["", "{a}", "m{", "m{a}", 'm{a="1" b="2"}', 'm{a="1}', 'm{="1"}'])
def test_a_text_that_is_not_canonical_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="series"):
        Series.parse(text)

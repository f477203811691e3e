import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from espnet_plugin.corpora.marked import join_marked, read_marked, word_tags
from espnet_plugin.text.markup import Segment
from espnet_plugin.text.normalizer import normalize


@pytest.mark.parametrize(
    ("raw", "text", "tags", "lang"),
    [
        ("go to the <malay>pasar</malay> [lah]", "go to the pasar lah", "en en en ms shared", "cs"),
        ("<malay>tak nak</malay>, ok", "tak nak, ok", "ms ms en", "cs"),
        ("<malay>makan</malay> [lah]", "makan lah", "ms shared", "ms"),
        ("<MALAY>sudah</malay went", "sudah went", "ms en", "cs"),
        ("<malay>makan / malay> [uh) now", "makan now", "ms en", "cs"),
        ("very <malay>mahal:expensive</malay> one", "very mahal one", "en ms en", "cs"),
        ("it's <mandarin>好吃:haochi</mandarin>", "it's 好吃", "en en zh", "en"),
        ("<tamil>அண்ணா:anna</tamil>", "அண்ணா", "ta", "ta"),
        (
            "#Feng Shao-Feng# (uh) said G_L_D",
            "Feng Shao-Feng said GLD",
            "name name name en en",
            "en",
        ),
        ("(ppb) wor~ ** <UNk> <S>", "", "", "en"),
        ("twenty one [lah]", "twenty one lah", "num shared", "en"),
        # every tag, sound, filler, particle and broken form that corpora are known to have
        ("<MANDARIN>好:hao</MANDARIN> good", "好 good", "zh en", "en"),
        ("<malay>jom<>/malay> eat", "jom eat", "ms en", "cs"),
        ("<malay>nasi lemak sedap:tasty</malay> wow", "nasi lemak sedap wow", "ms ms ms en", "cs"),
        ("a <UKN> b <INK> c <unk/> d <NEN>", "a b c d", "en en en en", "en"),
        ("<FIL/> <SPK/> <NON/> <NPS/> <s/> <c/> <q/> go", "go", "en", "en"),
        ("<P1>call me</P1> now", "call me now", "en en en", "en"),
        ("(ppb) (ppc) (ppl) (ppo) (ppO) (pbb) go", "go", "en", "en"),
        ("(uh) (um) (err) (mm) go", "go", "en", "en"),
        ("[;ah] [uh)] [sia] [a'ah] go", "ah sia a'ah go", "shared shared shared shared en", "en"),
        ("!wah! so big", "wah so big", "shared en en", "en"),
        ("i paid 5", "i paid 5", "en en num", "en"),
    ],
)
def test_markup_to_text_and_tags(raw, text, tags, lang):
    marked = read_marked(raw)
    assert (marked.text, marked.tags, marked.lang) == (text, tags.split(), lang)
    assert len(marked.tags) == len(normalize(marked.text, lang).words)


def test_joined_transcripts():
    joined = join_marked([read_marked("we go"), read_marked("<malay>balik kampung</malay> [lah]")])
    assert joined.text == "we go balik kampung lah"
    assert joined.tags == ["en", "en", "ms", "ms", "shared"]
    assert joined.lang == "cs"


WORDS = """the going one ones two twenty thirty hundred and half a point oh double it's i'm don't
wanna Mr. st 5 5th 20 $5 % £ per cent o'clock twenty-one one's 3.5 1,000 hmm uh colour, said. 'cause
minus s th rd percent euros ¢5 two's kanak2 kanak-kanak"""


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(WORDS.split()), st.sampled_from(["ms", "name", None])), max_size=9
    ),
    st.sampled_from(["en", "cs", "ms", "id"]),
)
def test_tags_are_as_many_as_normalised_words(pairs, lang):
    tags = word_tags([Segment(word, tag) for word, tag in pairs], lang, "en")
    words = normalize(" ".join(word for word, _ in pairs), lang).words
    assert len(tags) == len(words)
    assert [tag == "num" for tag in tags] == [word[0].isdigit() for word in words]

"""Names that cause damage if they are not escaped."""

from hypothesis import strategies as st

NAMES = [
    *("007", "1e5", "nan", "None", "NA", "true", "a|b", "=1+1", "+x", "-x", "@x", "\t=1", "'=1", "＝1"),
    *(
        "two\nlines",
        "\x1b[31mred",
        "\x9b31m",
        '"quoted"',
        "<script>",
        "</script>",
        "R&D_1 50 % #1 {x} ~ ^ \\",
    ),
    *("\u202eabc", "\u2066a", "[x](javascript:alert(1))", "_it_", "`code`", "\ud800", "\0", ""),
]
ANY = st.one_of(st.sampled_from(NAMES), st.text(), st.text(alphabet="=+-@'\t\r\n|`<&_*[]()\\ab1.e"))

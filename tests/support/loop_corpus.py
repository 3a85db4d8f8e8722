"""Seeded texts that repeat themselves and end: tables, fixtures, refrains, grids, at the lengths people write them."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from itertools import count

Rng = random.Random
WORDS = [
    "river", "stone", "lamp", "green", "paper", "cloud", "winter", "garden", "copper",
    "signal", "harbor", "velvet", "orange", "window", "quiet", "engine", "marble", "forest",
    "ribbon", "candle", "pocket", "silver", "thunder", "meadow", "anchor", "basket",
]  # fmt: skip
# Public domain: nursery rhymes and traditional songs, with what returns in them.
REFRAINS = [
    "Row, row, row your boat,\nGently down the stream,\nMerrily, merrily, merrily, merrily,\nLife is but a dream.\n\n",
    "Frère Jacques, Frère Jacques,\nDormez-vous ? Dormez-vous ?\nSonnez les matines ! Sonnez les matines !\n"
    "Ding, dang, dong. Ding, dang, dong.\n\n",
    "London Bridge is falling down,\nFalling down, falling down,\nLondon Bridge is falling down,\nMy fair lady.\n\n",
    "Hurrah! Hurrah! we bring the jubilee!\nHurrah! Hurrah! the flag that makes you free!\n\n",
    "What shall we do with the drunken sailor,\nWhat shall we do with the drunken sailor,\n"
    "What shall we do with the drunken sailor,\nEarly in the morning?\n\n",
    "Way, hay and up she rises,\nWay, hay and up she rises,\nWay, hay and up she rises,\nEarly in the morning!\n\n",
]
# Code lines that stand below each other unchanged: language, what opens the block, the line, what closes it.
REPEATED_CODE = [
    (
        "python",
        "def test_idempotent(client):\n",
        "    client.put('/state', json={'on': True})\n",
        "    assert client.ok\n",
    ),
    ("python", "layers = [\n", "    nn.Linear(256, 256), nn.ReLU(),\n", "]\n"),
    ("python", "print('start')\n", "print()\n", "print('end')\n"),
    ("c", "void spin(void) {\n", '    __asm__ volatile("nop");\n', "}\n"),
    ("c", "static const struct ops table[] = {\n", "    { NULL, NULL, 0 },\n", "};\n"),
    ("c++", "int main() {\n", "    std::cout << std::endl;\n", "    return 0;\n}\n"),
    ("javascript", "it('retries', async () => {\n", "  await clock.tickAsync(1000);\n", "});\n"),
    ("rust", "#[test]\nfn drains() {\n", "    assert_eq!(rx.try_recv(), Ok(()));\n", "}\n"),
    ("go", "func TestNext(t *testing.T) {\n", "\tif !it.Next() {\n\t\tt.Fatal()\n\t}\n", "}\n"),
    ("sql", "INSERT INTO counters (a, b, c) VALUES\n", "    (0, 0, 0),\n", "    (1, 0, 0);\n"),
    ("bash", "set -e\n", 'curl -fsS "$URL" > /dev/null\n', "echo done\n"),
    ("asm", "_start:\n", "    nop\n", "    ret\n"),
]
RECORDS = [
    '{"id": 0, "name": "", "active": false}', '{"x": 0, "y": 0}', '{"type": "wall"}', "null", '"pending"', "[0, 0, 0]",
    '{"status": "ok", "code": 200, "body": null}', '{"user": null, "roles": [], "quota": {"used": 0, "max": 100}}',
]  # fmt: skip
KINDS: dict[str, Callable[[Rng], str]] = {}


def kind(make: Callable[[Rng], str]) -> Callable[[Rng], str]:
    KINDS[make.__name__] = make
    return make


def sentence(rng: Rng) -> str:
    return " ".join(rng.choices(WORDS, k=rng.randint(4, 9))).capitalize() + "."


def lines(items: Iterator[str] | list[str]) -> str:
    return "".join(f"{item}\n" for item in items)


@kind
def markdown_table(rng: Rng) -> str:
    n_cols, cell = rng.randint(2, 5), rng.choice(["", "yes", "0", "-", "n/a", "✓", "TODO"])
    row = "|" + f" {cell} |" * n_cols
    head = "|" + "|".join(f" {rng.choice(WORDS)} " for _ in range(n_cols)) + "|\n|" + "---|" * n_cols + "\n"
    return head + f"{row}\n" * rng.randint(3, 16)


@kind
def labelled_table(rng: Rng) -> str:
    cells = rng.choice([" yes | no ", " 0 | 0 | 0 ", " low | low | low | low "])
    return lines([f"| {rng.choice(WORDS)} {i} |{cells}|" for i in range(rng.randint(8, 40))])


@kind
def csv_of_zeros(rng: Rng) -> str:
    n_cols = rng.randint(2, 12)
    row = ",".join([rng.choice(["0", "0.0", "NA", ""])] * n_cols)
    return ",".join(rng.choices(WORDS, k=n_cols)) + "\n" + f"{row}\n" * rng.randint(4, 20)


@kind
def csv_with_ids(rng: Rng) -> str:
    rest = ",".join(["0"] * rng.randint(2, 10))
    return lines([f"{i},{rest}" for i in range(rng.randint(10, 60))])


@kind
def latex_table(rng: Rng) -> str:
    n_cols = rng.randint(2, 6)
    row = " & ".join([rng.choice(["0", "--", "1.00", ""])] * n_cols) + r" \\ \hline"
    body = f"{row}\n" * rng.randint(3, 12)
    return r"\begin{tabular}{" + "|c" * n_cols + "|}\n\\hline\n" + body + "\\end{tabular}\n"


@kind
def repeated_code(rng: Rng) -> str:
    language, head, line, tail = rng.choice(REPEATED_CODE)
    return f"```{language}\n{head}{line * rng.randint(3, 14)}{tail}```\n"


@kind
def similar_code(rng: Rng) -> str:
    template = rng.choice([
        "    self.w{0} = nn.Linear(64, 64)\n", "    case {0}: return 0;\n", "const a{0} = require('lib');\n",
        "assert f({0}) == 0\n", "#define FLAG_{0} (1 << {0})\n", "export VAR_{0}=1\n", "ALTER TABLE t ADD c{0} INT;\n",
    ])  # fmt: skip
    return "".join(template.format(i) for i in range(rng.randint(10, 60)))


@kind
def array_initializer(rng: Rng) -> str:
    value, per_line = rng.choice(["0x00", "0", "255", "-1", "0.0f", "false"]), rng.choice([4, 8, 16])
    body = ("    " + f"{value}, " * per_line + "\n") * (rng.choice([16, 32, 64]) // per_line)
    return f"static const auto {rng.choice(WORDS)}[] = {{\n{body}}};\n"


@kind
def json_array(rng: Rng) -> str:
    record, n = rng.choice(RECORDS), rng.randint(3, 12)
    return '{"items": [\n' + ",\n".join([f"    {record}"] * n) + "\n]}\n"


@kind
def pretty_json(rng: Rng) -> str:
    record = '    {\n      "score": 0,\n      "label": null\n    }'
    return "[\n" + ",\n".join([record] * rng.randint(2, 10)) + "\n]\n"


@kind
def numbered_json(rng: Rng) -> str:
    record = rng.choice(['"active": false, "tags": []', '"score": 0.0', '"name": "", "email": "", "age": 0'])
    return "[" + ",\n ".join(f'{{"id": {i}, {record}}}' for i in range(rng.randint(8, 40))) + "]\n"


@kind
def yaml_fixtures(rng: Rng) -> str:
    entry = rng.choice(["- name: test\n  value: 0\n", "- retry\n", "- {host: localhost, port: 8080}\n"])
    return f"{rng.choice(WORDS)}:\n" + entry * rng.randint(3, 12) + "end: true\n"


@kind
def html_cards(rng: Rng) -> str:
    card = rng.choice([
        '<div class="card"><h3>Title</h3><p>Lorem ipsum dolor sit amet.</p></div>\n',
        '<li><a href="#">Link</a></li>\n', "<tr><td></td><td></td><td></td></tr>\n", "<p>&nbsp;</p>\n",
        '<section>\n  <h2>Heading</h2>\n  <img src="a.png" alt="">\n  <button>Read more</button>\n</section>\n',
    ])  # fmt: skip
    return "<body>\n" + card * rng.randint(3, 6) + "</body>\n"


@kind
def svg_shapes(rng: Rng) -> str:
    shape = rng.choice(['<rect x="{0}" y="0" width="9" height="9"/>', '<circle cx="{0}" cy="50" r="4"/>'])
    return "<svg>\n" + lines([shape.format(10 * i) for i in range(rng.randint(5, 30))]) + "</svg>\n"


@kind
def song_with_refrain(rng: Rng) -> str:
    refrain = rng.choice(REFRAINS)
    verses = [lines([sentence(rng) for _ in range(4)]) + "\n" + refrain for _ in range(rng.randint(2, 6))]
    return "".join(verses)


@kind
def round_song(rng: Rng) -> str:
    return rng.choice(REFRAINS) * rng.randint(2, 4)


@kind
def chant(rng: Rng) -> str:
    call = rng.choice(["Na na na na, hey! ", "Om mani padme hum\n", "Ole, ole, ole! ", "La la la\n", "Go team go!\n"])
    return sentence(rng) + "\n" + call * rng.randint(4, 24) + "\n" + sentence(rng)


@kind
def litany(rng: Rng) -> str:
    return lines([f"{sentence(rng)}\nHave mercy on us." for _ in range(rng.randint(5, 20))])


@kind
def counting_song(rng: Rng) -> str:
    template = "{0} green bottles hanging on the wall,\n{0} green bottles hanging on the wall,\n"
    return "".join(template.format(n) for n in range(rng.randint(8, 30), 0, -1))


@kind
def cumulative_rhyme(rng: Rng) -> str:
    names = rng.sample(WORDS, rng.randint(5, 10))
    return "".join("This is " + "that held ".join(f"the {w} " for w in names[i::-1]) + "\n" for i in range(len(names)))


@kind
def lines_to_write(rng: Rng) -> str:
    return (sentence(rng) + "\n") * rng.randint(3, 10)


@kind
def log_with_times(rng: Rng) -> str:
    message = rng.choice(["INFO health check ok", "GET /ping 200 0ms", "WARN retrying in 5 s", "worker idle"])
    start = rng.randint(0, 3000)
    return lines([f"12:{t // 60 % 60:02}:{t % 60:02} {message}" for t in range(start, start + rng.randint(10, 60))])


@kind
def log_without_times(rng: Rng) -> str:
    message = rng.choice(["[worker] waiting for job", "npm WARN deprecated", "connection refused", "."])
    return sentence(rng) + "\n" + f"{message}\n" * rng.randint(3, 20) + "done\n"


@kind
def numbered_list(rng: Rng) -> str:
    item = rng.choice(["Repeat the step above.", "Breathe in, breathe out.", "10 push-ups"])
    return lines([f"{i}. {item}" for i in range(1, rng.randint(10, 50))])


@kind
def checklist(rng: Rng) -> str:
    item = rng.choice(["- [ ] \n", "- [x] done\n", "* \n", "☐ ________\n", "- TBD\n", "> \n"])
    return f"## {sentence(rng)}\n\n" + item * rng.randint(5, 30)


@kind
def zero_matrix(rng: Rng) -> str:
    n, (before, cell, after) = rng.randint(3, 16), rng.choice([("", "0 ", ""), ("[", "0, ", "],"), ("[", " 0.", "]")])
    return f"{before}{cell * n}{after}\n" * n


@kind
def identity_matrix(rng: Rng) -> str:
    n = rng.randint(3, 14)
    return lines([" ".join("1" if i == j else "0" for j in range(n)) for i in range(n)])


@kind
def multiplication_table(rng: Rng) -> str:
    n = rng.randint(5, 15)
    return lines([" ".join(f"{i * j:4}" for j in range(1, n)) for i in range(1, n)])


@kind
def board(rng: Rng) -> str:
    row, n = rng.choice(
        [(". . . . . . . .", 8), ("|   |   |   |", 3), ("_ _ _ | _ _ _ | _ _ _", 9), ("~~~~~~~~~~", 10)]
    )
    return "r n b q k b n r\n" + f"{row}\n" * n + "R N B Q K B N R\n"


@kind
def checkerboard(rng: Rng) -> str:
    n, a, b = rng.choice([8, 10, 12]), *rng.choice(["#.", "■□", "XO", "01"])
    return f"{(a + b) * (n // 2)}\n{(b + a) * (n // 2)}\n" * (n // 2)


@kind
def ascii_box(rng: Rng) -> str:
    width = rng.randint(10, 60)
    return f"+{'-' * width}+\n" + f"|{' ' * width}|\n" * rng.randint(2, 8) + f"+{'-' * width}+\n"


@kind
def rules_between_text(rng: Rng) -> str:
    rule = rng.choice("-=*_#~.─") * rng.choice([40, 60, 72, 80, 100, 120])
    return "".join(f"{rule}\n{sentence(rng)}\n" for _ in range(rng.randint(2, 8))) + rule


@kind
def ping_output(rng: Rng) -> str:
    return lines([f"64 bytes from 10.0.0.1: icmp_seq={i} ttl=64 time=0.04 ms" for i in range(rng.randint(5, 40))])


@kind
def progress_bars(rng: Rng) -> str:
    return lines([f"[{'#' * i}{' ' * (40 - i)}] {i * 5 // 2}%" for i in range(0, 41, rng.choice([1, 2, 4]))])


@kind
def ls_output(rng: Rng) -> str:
    return lines([f"-rw-r--r-- 1 root root    0 Jan  1 00:00 {w}.txt" for w in rng.sample(WORDS, rng.randint(6, 24))])


@kind
def hex_dump(rng: Rng) -> str:
    return lines([f"{16 * i:08x}  " + "00 " * 16 + " |" + "." * 16 + "|" for i in range(rng.randint(4, 24))])


@kind
def padding(rng: Rng) -> str:
    return rng.choice(["A", "0", "=", "\x20", "\n", "x", "\\0", "00"]) * rng.choice([32, 64, 100, 128, 256])


@kind
def tandem_repeat(rng: Rng) -> str:
    unit = "".join(rng.choices("ACGT", k=rng.randint(1, 6)))
    flank = "".join(rng.choices("ACGT", k=200))
    return f">seq1\n{flank[:100]}{unit * rng.randint(8, 60)}{flank[100:]}\n"


@kind
def random_dna(rng: Rng) -> str:
    return lines(["".join(rng.choices("ACGT", k=60)) for _ in range(rng.randint(5, 20))])


@kind
def recurring_decimal(rng: Rng) -> str:
    return f"1/7 = 0.{rng.choice(['142857', '3', '09', '076923', '0588235294117647']) * rng.randint(4, 16)}...\n"


@kind
def guitar_tab(rng: Rng) -> str:
    bar = rng.choice(["--------", "-0-0-0-0", "x-x-x-x-"])
    return lines([f"{s}|{'|'.join([bar] * rng.randint(2, 6))}|" for s in "eBGDAE"]) * rng.randint(1, 3)


@kind
def dialogue(rng: Rng) -> str:
    question = rng.choice(["Why?", "Are we there yet?", "Ja?", "什么"])
    return "".join(f"- {question}\n- {sentence(rng)}\n" for _ in range(rng.randint(5, 20)))


@kind
def laughter(rng: Rng) -> str:
    return sentence(rng) + " " + rng.choice(["ha", "😂", "no ", "very ", "哈", "LOL ", "!", "Z"]) * rng.randint(5, 120)


@kind
def placeholder_paragraphs(rng: Rng) -> str:
    paragraph = " ".join(sentence(rng) for _ in range(rng.randint(1, 4)))
    return f"{paragraph}\n\n" * rng.randint(2, 3)


@kind
def knitting(rng: Rng) -> str:
    return lines([f"Row {i}: " + "k2, p2, " * rng.randint(4, 12) + "k2" for i in range(1, rng.randint(6, 24))])


@kind
def training_plan(rng: Rng) -> str:
    week = lines([f"{d}: {rng.choice(['rest', 'run 5 km', 'swim'])}" for d in ("Mon", "Tue", "Wed", "Thu", "Fri")])
    return "".join(f"Week {i}\n{week}\n" for i in range(1, rng.randint(4, 12)))


@kind
def calendar(rng: Rng) -> str:
    offset = rng.randint(0, 6)
    days = ["  "] * offset + [f"{d:2}" for d in range(1, 32)]
    return "Mo Tu We Th Fr Sa Su\n" + lines([" ".join(days[i : i + 7]) for i in range(0, len(days), 7)])


def make_texts(n: int, seed: int) -> list[tuple[str, str]]:
    """`n` distinct texts as (kind, text), the kinds in turn."""
    texts: dict[str, str] = {}
    for i in count():
        if len(texts) == n:
            break
        name = list(KINDS)[i % len(KINDS)]
        rng = Rng(f"{seed} {i}")
        opening = f"{sentence(rng)}\n\n" if rng.random() < 0.5 else ""
        texts.setdefault(opening + KINDS[name](rng), name)
    return [(name, text) for text, name in texts.items()]

"""Random folders, files and `.gitignore` files, as odd as their formats allow."""

import os

# Names and parts of patterns; latin-1 so that a byte need not be Unicode.
NAMES = "a|a|a|b|b|b|c|ab|A|1|-|]|[|!|^|#| |\t|\\|*|?|:|\r|\x0b|Ã©|ÿ".encode("latin-1").split(b"|")
CLASSES = (
    (
        "[ab]|[!a]|[^a]|[a-c]|[a-]|[]a]|[!]a]|[[:alpha:]]|[[:space:]b]|[[:punct:]]|[a\\]]|[a/b]|[!/]|["
        "|[a|[]|[[:foo:]]|[[:]|[[:a]|[b-a]|[a-b-c]|[\\a-c]|[--b]|[!-b]|[^]|[!]|[[.a.]]|[a-\\c]|[é]|[[a]"
        "|[[:upper:][:digit:]]|[[:alpha:]-c]|[[:cntrl:]]|[[:graph:]]|[[:blank:]]|[[:xdigit:]-]"
    )
    .encode()
    .split(b"|")
)
OTHERS = "\\a|\\*|\\ | |\\|\t|-|]|!|#|\\[|é|\\\\|\\?|^|\\!|\\#|\r|ÿ".encode("latin-1").split(b"|")
LINES = b"|!|\\|# a|/|*|!*/|/*|*/|//|!/|  |a\0b|**|/**|**/".split(b"|")


def random_name(rng):
    return b"".join(rng.choices(NAMES, k=rng.choice([1, 1, 1, 2, 2, 3])))


def random_pattern(rng):
    kinds = ([b"a", b"b", b"c", b"ab", b"A", b"1"], [b"*"], [b"**"], [b"?"], CLASSES, OTHERS)
    parts = []
    for _ in range(rng.choice([1, 1, 1, 2, 2, 3])):
        chosen = rng.choices(kinds, [50, 12, 6, 4, 18, 10], k=rng.choice([1, 1, 2, 2, 3]))
        parts.append(b"".join(map(rng.choice, chosen)) if rng.random() < 0.8 else b"**")
    actual = rng.choice([b"/", b"/", b"/", b"/", b"\\/"]).join(parts)
    for share, before, after in ((0.2, b"/", b""), (0.2, b"", b"/"), (0.25, b"!", b"")):
        if rng.random() < share:
            actual = before + actual + after
    return actual + (rng.choice([b" ", b"  ", b"\\ ", b"\t"]) if rng.random() < 0.1 else b"")


def random_ignore_file(rng):
    lines = [random_pattern(rng) for _ in range(rng.randint(1, 6))]
    if rng.random() < 0.2:
        lines.insert(rng.randrange(len(lines) + 1), rng.choice(LINES))
    content = rng.choice([b"\n", b"\n", b"\n", b"\r\n"]).join(lines)
    content += b"\n" if rng.random() < 0.8 else b""
    return (b"\xef\xbb\xbf" if rng.random() < 0.1 else b"") + content


def write_random_tree(rng, top):
    """Writes folders, files and `.gitignore` files below `top`."""
    folders = [top]
    for _ in range(rng.randint(1, 4)):
        folders.append(rng.choice(folders) + b"/" + random_name(rng))
        os.makedirs(folders[-1], exist_ok=True)
    for _ in range(rng.randint(4, 10)):
        file = rng.choice(folders) + b"/" + random_name(rng)
        if file not in folders:
            open(file, "wb").close()
    for folder in folders:
        if folder == top or rng.random() < 0.25:
            with open(folder + b"/.gitignore", "wb") as file:
                file.write(random_ignore_file(rng))

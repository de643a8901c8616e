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


def a_name(chance):
    return b"".join(chance.choices(NAMES, k=chance.choice([1, 1, 1, 2, 2, 3])))


def a_pattern(chance):
    kinds = ([b"a", b"b", b"c", b"ab", b"A", b"1"], [b"*"], [b"**"], [b"?"], CLASSES, OTHERS)
    parts = []
    for _ in range(chance.choice([1, 1, 1, 2, 2, 3])):
        chosen = chance.choices(kinds, [50, 12, 6, 4, 18, 10], k=chance.choice([1, 1, 2, 2, 3]))
        parts.append(b"".join(map(chance.choice, chosen)) if chance.random() < 0.8 else b"**")
    found = chance.choice([b"/", b"/", b"/", b"/", b"\\/"]).join(parts)
    for share, before, after in ((0.2, b"/", b""), (0.2, b"", b"/"), (0.25, b"!", b"")):
        if chance.random() < share:
            found = before + found + after
    return found + (chance.choice([b" ", b"  ", b"\\ ", b"\t"]) if chance.random() < 0.1 else b"")


def an_ignore_file(chance):
    lines = [a_pattern(chance) for _ in range(chance.randint(1, 6))]
    if chance.random() < 0.2:
        lines.insert(chance.randrange(len(lines) + 1), chance.choice(LINES))
    content = chance.choice([b"\n", b"\n", b"\n", b"\r\n"]).join(lines)
    content += b"\n" if chance.random() < 0.8 else b""
    return (b"\xef\xbb\xbf" if chance.random() < 0.1 else b"") + content


def a_tree(chance, top):
    """Writes folders, files and `.gitignore` files below `top`."""
    folders = [top]
    for _ in range(chance.randint(1, 4)):
        folders.append(chance.choice(folders) + b"/" + a_name(chance))
        os.makedirs(folders[-1], exist_ok=True)
    for _ in range(chance.randint(4, 10)):
        file = chance.choice(folders) + b"/" + a_name(chance)
        if file not in folders:
            open(file, "wb").close()
    for folder in folders:
        if folder == top or chance.random() < 0.25:
            with open(folder + b"/.gitignore", "wb") as file:
                file.write(an_ignore_file(chance))

"""Which functions of this kernel to trace: words as set_ftrace_filter takes them, presets, stacks of perf.

Words are expanded here and handed to the kernel by place: it would compare every function with every word.
"""

import re

from agent import functions

INTERRUPTED = re.compile(
    r"asm_|(__)?sysvec_|(__)?common_interrupt|(__)?irq_exit|el\d[ht]?_(\d+_)?(irq|interrupt)"
)
"""From here on a stack belongs to what was interrupted."""
TRACER = re.compile(r"perf_|__perf_|trace_|__trace|__bpf_trace|bpf_|ftrace_|__probestub_")
"""What perf itself runs."""


class Choice:
    """The chosen lines of the kernel's list with their places, and how many each word gave."""

    def __init__(self, places, names, matched):
        self.places = places
        self.names = names
        self.matched = matched


def read_presets(text):
    """Name to words; a name may have several lines."""
    presets = {}
    for line in text.splitlines():
        name, _, words = line.partition(" ")
        if name and not name.startswith("#"):
            presets.setdefault(name, []).extend(words.split())
    return presets


def choose(lines, words, excluded=()):
    """Those of ``lines`` that a word names and no excluded one does."""
    tests = {word: re.compile(pattern(word)) for word in words}
    wanted, unwanted = either(words), either(excluded)
    places, names, matched = [], [], dict.fromkeys(words, 0)
    for place, line in enumerate(lines, 1):
        if not wanted.match(line) or unwanted.match(line) or not functions.is_function(line):
            continue
        places.append(place)
        names.append(line)
        for word, test in tests.items():
            matched[word] += bool(test.match(line))
    return Choice(places, names, matched)


def either(words):
    """One expression for many words: the kernel's list is long."""
    return re.compile("|".join(map(pattern, words)) or "(?!)")


def pattern(word):
    """A regular expression for ``name`` or ``name [module]``."""
    name, _, module = word.partition(":mod:")
    ending = r" \[" + _glob(module) + r"\]" if module else r"(?: \[.*\])?"
    return "(?:" + _glob(name or "*") + ending + r"\Z)"


def _glob(text):
    meaning = {"*": r"[^ \]]*", "?": r"[^ \]]"}
    return "".join(meaning.get(character) or re.escape(character) for character in text)


def of_stacks(text):
    """The kernel's functions in the stacks of ``perf script -F ip,sym``, without what was interrupted."""
    found, cut = {}, False
    for line in text.splitlines():
        fields = line.split()
        name = fields[1].partition("+")[0] if len(fields) > 1 else ""
        cut = bool(fields) and (cut or bool(INTERRUPTED.match(name)))
        if name and not cut and not TRACER.match(name):
            found[name] = True
    return list(found)
